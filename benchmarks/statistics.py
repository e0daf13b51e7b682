"""Ratios with their uncertainty: the median of interleaved pairs, and its bootstrap interval (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


class Ratio(msgspec.Struct, frozen=True):
    """Median of the pairs' ratios with its 95 % interval."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Median of above[i] / below[i]; the interval holds 95 % of the medians of pairs drawn again with replacement."""
    ratios: NDArray[np.float64] = np.asarray(above, np.float64) / np.asarray(below, np.float64)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
