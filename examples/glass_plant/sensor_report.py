"""Judging the sensor model on held-out simulated runs, beside its baselines and the simulator's own bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.glass_plant import metrics
from examples.glass_plant.metrics import Figure
from examples.glass_plant.windows import WINDOW_ROWS, WindowSet, shorten

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
SHORT_SHOWN = (1, 4, 8, 16, 24, 32)
SHORT_STRIDE = 2  # every second held-out window measures the short histories


@dataclass(frozen=True)
class Scores:
    """Held-out figures of one predictor of the defect probability."""

    name: str
    auc: Figure
    precision: Figure
    log_loss: Figure
    accuracy: Figure
    calibration_error: Figure


@dataclass(frozen=True)
class ShortHistory:
    """Figures by the number of real rows in the window, entry k - 1 for k rows."""

    accuracy: list[Figure]
    auc: list[Figure]
    calibration_error: list[Figure]

    def confidence(self) -> list[float]:
        """Accuracy relative to a whole window, in (0, 1], non-decreasing: the lower of a value and its successors."""
        accuracy = np.array([figure.value for figure in self.accuracy])
        ratio = np.clip(accuracy / accuracy[-1], 0.01, 1.0)
        return [float(value) for value in np.minimum.accumulate(ratio[::-1])[::-1]]


def score(name: str, probability: NDArray[np.floating], held: WindowSet, threshold: float) -> Scores:
    """All figures of one predictor, with intervals from a bootstrap over runs."""
    hits = (probability >= threshold) == held.defect
    losses = metrics.binary_log_loss(probability, held.defect)
    return Scores(
        name,
        metrics.bootstrap(metrics.roc_auc(probability, held.defect), held.run),
        metrics.bootstrap(metrics.average_precision(probability, held.defect), held.run),
        metrics.bootstrap(metrics.mean_of(losses), held.run),
        metrics.bootstrap(metrics.mean_of(hits), held.run),
        metrics.bootstrap(metrics.calibration_error(probability, held.defect), held.run),
    )


def auc_difference(first: NDArray[np.floating], second: NDArray[np.floating], held: WindowSet) -> Figure:
    """AUC of the first less that of the second, on the same draws of runs."""
    ours, theirs = (metrics.roc_auc(probability, held.defect) for probability in (first, second))
    return metrics.bootstrap(lambda weights: ours(weights) - theirs(weights), held.run)


def accuracy_by_class(
    probability: NDArray[np.floating], held: WindowSet, threshold: float
) -> list[tuple[str, int, Figure]]:
    """Share decided rightly among windows without and with a defect."""
    hits = (probability >= threshold) == held.defect
    parts = (("ok", ~held.defect), ("defect", held.defect))
    return [
        (name, int(part.sum()), metrics.bootstrap(metrics.mean_of(hits[part]), held.run[part])) for name, part in parts
    ]


def best_f1_threshold(probability: NDArray[np.floating], defect: NDArray[np.bool_]) -> float:
    """The threshold, to two decimals, with the highest F1 score; taken on the calibration split."""
    grid = np.arange(0.05, 0.96, 0.01)
    caught = np.array([np.sum(defect & (probability >= cut)) for cut in grid])
    called = np.array([np.sum(probability >= cut) for cut in grid])
    return round(float(grid[np.argmax(2 * caught / (called + defect.sum()))]), 2)


def baselines(train: WindowSet, held: WindowSet, seed: int) -> dict[str, NDArray[np.float64]]:
    """Held-out probabilities of logistic regression (last row, whole window) and gradient boosting."""
    flat = len(train.defect)
    models = {
        "logistic regression, last row": (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), _last),
        "logistic regression, whole window": (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), _flat),
        "gradient boosting, window features": (
            HistGradientBoostingClassifier(max_iter=400, learning_rate=0.06, l2_regularization=1.0, random_state=seed),
            window_features,
        ),
    }
    answers = {}
    for name, (model, features) in models.items():
        model.fit(features(train.rows), train.defect)
        answers[name] = model.predict_proba(features(held.rows))[:, 1]
        print(f"  {name}: trained on {flat} windows", flush=True)
    return answers


def window_features(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The window and what an engineer would add: mean, spread, extremes, fastest falls and rises over four rows."""
    change = rows[:, 4:] - rows[:, :-4]
    parts = [rows.mean(1), rows.std(1), rows.min(1), rows.max(1), change.min(1), change.max(1), _flat(rows)]
    return np.concatenate(parts, axis=1)


def short_history(run: Predict, held: WindowSet, threshold: float) -> ShortHistory:
    """Figures for every number of real rows; `run` maps windows [n, 32, 3] to probabilities [n, 1]."""
    rows, defect, group = held.rows[::SHORT_STRIDE], held.defect[::SHORT_STRIDE], held.run[::SHORT_STRIDE]
    short = ShortHistory([], [], [])
    for known in range(1, WINDOW_ROWS + 1):
        probability = run(shorten(rows, known))[:, 0]
        hits = (probability >= threshold) == defect
        short.accuracy.append(metrics.bootstrap(metrics.mean_of(hits), group))
        short.auc.append(metrics.bootstrap(metrics.roc_auc(probability, defect), group))
        short.calibration_error.append(metrics.bootstrap(metrics.calibration_error(probability, defect), group))
    return short


def _last(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows[:, -1]


def _flat(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows.reshape(len(rows), -1)
