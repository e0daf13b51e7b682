"""Judging an image model on held-out simulated pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.glass_plant import metrics
from examples.glass_plant.image_sets import ImageSet
from examples.glass_plant.line import DEFECT_TYPES
from examples.glass_plant.metrics import Figure


@dataclass(frozen=True)
class ImageScores:
    """Held-out figures of one classifier; ranking figures are one-against-rest, their mean over the classes."""

    name: str
    accuracy: Figure
    auc: Figure
    precision: Figure
    detection_auc: Figure
    log_loss: Figure
    calibration_error: Figure


@dataclass(frozen=True)
class ClassScores:
    """Held-out figures of one class."""

    name: str
    cases: int
    accuracy: Figure
    auc: Figure
    precision: Figure


def score_images(name: str, probability: NDArray[np.floating], held: ImageSet) -> ImageScores:
    """All figures, with intervals from a bootstrap over campaigns."""
    hits = probability.argmax(1) == held.label
    losses = -np.log(np.maximum(probability[np.arange(len(hits)), held.label], 1e-12))
    every = range(len(DEFECT_TYPES))
    areas = [metrics.roc_auc(probability[:, kind], held.label == kind) for kind in every]
    precisions = [metrics.average_precision(probability[:, kind], held.label == kind) for kind in every]
    figures: tuple[metrics.Metric, ...] = (
        metrics.mean_of(hits),
        lambda weights: float(np.mean([area(weights) for area in areas])),
        lambda weights: float(np.mean([precision(weights) for precision in precisions])),
        metrics.roc_auc(-probability[:, 0], held.label > 0),
        metrics.mean_of(losses),
        metrics.calibration_error(probability.max(1), hits),
    )
    return ImageScores(name, *(metrics.bootstrap(figure, held.campaign) for figure in figures))


def score_classes(probability: NDArray[np.floating], held: ImageSet) -> list[ClassScores]:
    """Share of each class that is named rightly (Wilson interval), and how well it is ranked against the rest."""
    hits = probability.argmax(1) == held.label
    scores = []
    for kind, name in enumerate(DEFECT_TYPES):
        member = held.label == kind
        area = metrics.bootstrap(metrics.roc_auc(probability[:, kind], member), held.campaign)
        precision = metrics.bootstrap(metrics.average_precision(probability[:, kind], member), held.campaign)
        share = metrics.wilson(int(hits[member].sum()), int(member.sum()))
        scores.append(ClassScores(name, int(member.sum()), share, area, precision))
    return scores


def confusion(probability: NDArray[np.floating], held: ImageSet) -> NDArray[np.int64]:
    """Counts [5, 5]: rows are the truth, columns the answer."""
    size = len(DEFECT_TYPES)
    return np.bincount(held.label * size + probability.argmax(1), minlength=size * size).reshape(size, size)
