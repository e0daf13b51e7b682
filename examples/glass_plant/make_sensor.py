"""The sensor model from simulation to package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.glass_plant import metrics, sensor_report
from examples.glass_plant.calibration import fit_platt
from examples.glass_plant.line import ROW_INTERVAL_S
from examples.glass_plant.package import BATCH_ROWS_MAX, toml_list, write_package
from examples.glass_plant.sensor_card import SensorResults, sensor_card
from examples.glass_plant.sensor_model import MEAN, STD, lstm_graph, train_lstm
from examples.glass_plant.session import GraphSession, measure_cost
from examples.glass_plant.windows import WINDOW_ROWS, cut_windows

NAME = "lstm_defect_predictor"
DESCRIPTION = (
    "LSTM over 32 rows of furnace temperature, belt speed and pressure; "
    "trained on simulated data of a float-glass line, not on a plant's."
)
FEATURES = (
    ("furnace_temperature", "degC", 1400.0, 1700.0),
    ("belt_speed", "m/h", 100.0, 200.0),
    ("pressure", "Pa", 0.0, 40.0),
)


@dataclass(frozen=True)
class SensorScale:
    """How much is simulated and how long is trained; held-out and calibration runs never share a seed with training."""

    train_runs: int = 300
    calibration_runs: int = 60
    held_runs: int = 60
    epochs: int = 10


QUICK = SensorScale(train_runs=8, calibration_runs=6, held_runs=6, epochs=1)


def make_sensor(out: Path, scale: SensorScale, seed: int) -> None:
    """Simulate, train, calibrate, judge on held-out runs and write the package `out`/lstm_defect_predictor/1."""
    train = cut_windows(seed + 1, scale.train_runs, stride=2)
    calibration = cut_windows(seed + 2, scale.calibration_runs, stride=3)
    held = cut_windows(seed + 3, scale.held_runs, stride=3)
    print(f"  {len(train.rows)} training, {len(calibration.rows)} calibration, {len(held.rows)} held-out windows")
    weights = train_lstm(train, scale.epochs, seed)
    plain = GraphSession(lstm_graph(weights, 1.0, 0.0).SerializeToString())
    raw = np.clip(plain.run(calibration.rows)[:, 0].astype(np.float64), 1e-7, 1 - 1e-7)
    slope, intercept = fit_platt(np.log(raw / (1 - raw)), calibration.defect)
    graph = lstm_graph(weights, slope, intercept)
    session = GraphSession(graph.SerializeToString())
    threshold = sensor_report.best_f1_threshold(session.run(calibration.rows)[:, 0], calibration.defect)
    before, after = plain.run(held.rows)[:, 0], session.run(held.rows)[:, 0]
    others = sensor_report.baselines(train, held, seed)
    short = sensor_report.short_history(session.run, held, threshold)
    parameters = sum(np.size(value) for value in vars(weights).values())
    results = SensorResults(
        scale=(len(train.rows), len(calibration.rows), len(held.rows)),
        runs=(scale.train_runs, scale.calibration_runs, scale.held_runs),
        defect_share=metrics.bootstrap(metrics.mean_of(held.defect), held.run),
        model=sensor_report.score("**LSTM (this model)**", after, held, threshold),
        before=sensor_report.score("LSTM before calibration", before, held, threshold),
        others=[sensor_report.score(name, value, held, threshold) for name, value in others.items()],
        bound=sensor_report.score("true probability (bound)", held.probability, held, threshold),
        by_class=sensor_report.accuracy_by_class(after, held, threshold),
        advantage=sensor_report.auc_difference(after, others["gradient boosting, window features"], held),
        short=short,
        threshold=threshold,
        platt=(slope, intercept),
        cost=measure_cost(graph.SerializeToString(), held.rows[:1], parameters),
    )
    curves = {
        "before calibration": metrics.reliability(before, held.defect),
        "calibrated": metrics.reliability(after, held.defect),
    }
    example = {"rows": varied_windows(held.rows, after, 64)}
    manifest = sensor_manifest(threshold, short.confidence(), slope, intercept)
    write_package(out / NAME / "1", graph, manifest, sensor_card(results), example, curves)
    print(f"  {NAME}: AUC {results.model.auc}, bound {results.bound.auc}, {results.cost.row_s * 1e6:.0f} us a row")


def varied_windows(rows: np.ndarray, probability: np.ndarray, count: int) -> np.ndarray:
    """Windows spread evenly over the range of probabilities, in a fixed order."""
    targets = np.linspace(probability.min(), probability.max(), count)
    order = np.argsort(probability, kind="stable")
    places = np.minimum(np.searchsorted(probability[order], targets), len(order) - 1)
    return rows[order[places]]


def sensor_manifest(threshold: float, short_confidence: list[float], slope: float, intercept: float) -> str:
    """The text of model.toml."""
    features = "".join(
        f'[[sensor_window.features]]\nname = "{name}"\nunit = "{unit}"\nvalid_min = {low}\nvalid_max = {high}\n'
        f'when_missing = "hold_last"\nnormalisation_mean = {mean:.2f}\nnormalisation_std = {std:.2f}\n\n'
        for (name, unit, low, high), mean, std in zip(FEATURES, MEAN, STD, strict=True)
    )
    return f"""format = 1

[model]
task = "sensor_window"
title = "Defect probability from 16 minutes of sensor rows"
description = "{DESCRIPTION}"

[sensor_window]
input = "rows"
rows = {WINDOW_ROWS}
row_interval_s = {ROW_INTERVAL_S}

{features}[output]
name = "defect_probability"
kind = "binary"
labels = ["ok", "defect"]
threshold = {threshold}
short_history_confidence = {toml_list([round(value, 4) for value in short_confidence])}

[calibration]
method = "platt"
slope = {slope:.6f}
intercept = {intercept:.6f}

[limits]
batch_rows_max = {BATCH_ROWS_MAX}
"""
