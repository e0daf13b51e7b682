"""Figures of merit with their intervals, in numpy: every metric takes one weight per case, so a bootstrap is cheap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Metric = Callable[[NDArray[np.float64]], float]
BINS = 15
RESAMPLES = 300


@dataclass(frozen=True)
class Figure:
    """A measured value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(metric: Metric, group: NDArray[np.integer], seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The metric with its percentile bootstrap interval; whole groups are drawn, so cases of one run stay together.

    `metric` maps weights [n] to a value; `group` [n] names each case's simulated run or campaign.
    """
    rng = np.random.default_rng(seed)
    names, member = np.unique(group, return_inverse=True)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    values = [metric(draw[member].astype(np.float64)) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(metric(np.ones(len(member))), float(low), float(high))


def wilson(hits: int, cases: int) -> Figure:
    """A share of independent cases with its Wilson score interval (Wilson, JASA 22, 1927)."""
    z = 1.959964
    share = hits / cases
    middle = (share + z * z / (2 * cases)) / (1 + z * z / cases)
    half = z / (1 + z * z / cases) * np.sqrt(share * (1 - share) / cases + z * z / (4 * cases**2))
    return Figure(share, float(middle - half), float(middle + half))


def roc_auc(score: Floats, positive: NDArray[np.bool_]) -> Metric:
    """Area under the ROC curve, ties counted half."""
    order, ends = _ranked(score)
    hit = positive[order]

    def metric(weights: NDArray[np.float64]) -> float:
        weight = weights[order]
        good = np.cumsum(weight * hit)[ends]
        bad = np.cumsum(weight * ~hit)[ends]
        return float(np.trapezoid(np.r_[0, good], np.r_[0, bad]) / (good[-1] * bad[-1]))

    return metric


def average_precision(score: Floats, positive: NDArray[np.bool_]) -> Metric:
    """Area under the precision-recall steps, without interpolation."""
    order, ends = _ranked(score)
    hit = positive[order]

    def metric(weights: NDArray[np.float64]) -> float:
        weight = weights[order]
        good = np.cumsum(weight * hit)[ends]
        every = np.cumsum(weight)[ends]
        return float(np.sum(np.diff(np.r_[0, good]) * good / np.maximum(every, 1e-12)) / good[-1])

    return metric


def mean_of(values: NDArray[np.generic]) -> Metric:
    """Weighted mean of values [n]: accuracy from hits, log loss from losses."""
    return lambda weights: float(np.average(values.astype(np.float64), weights=weights))


def calibration_error(confidence: Floats, outcome: NDArray[np.bool_]) -> Metric:
    """Expected calibration error over 15 bins of equal count (Naeini et al., AAAI 2015; Nguyen & O'Connor 2015)."""
    rank = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    bins = rank * BINS // len(rank)

    def metric(weights: NDArray[np.float64]) -> float:
        gap = np.bincount(bins, weights * (confidence - outcome), BINS)
        return float(np.abs(gap).sum() / weights.sum())

    return metric


def reliability(confidence: Floats, outcome: NDArray[np.bool_]) -> list[tuple[float, Figure]]:
    """Mean confidence and observed share (Wilson interval) in each of 15 bins of equal count."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, BINS)
    return [(float(confidence[part].mean()), wilson(int(outcome[part].sum()), len(part))) for part in parts]


def binary_log_loss(probability: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Losses [n] in nats of each case."""
    chance = np.clip(np.where(positive, probability, 1 - probability).astype(np.float64), 1e-12, 1.0)
    return -np.log(chance)


def _ranked(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cases from high to low score, and the last place of each run of equal scores."""
    order = np.argsort(-score, kind="stable")
    return order, np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
