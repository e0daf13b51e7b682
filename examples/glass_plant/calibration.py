"""Calibration on a split of its own; what is found here becomes nodes of the exported graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOFT = 1e-3  # probability at which `unsmoothed` bends, so that it keeps the order and never gives 0


def fit_platt(logit: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * logit + intercept) by Newton's method (Platt 1999, without smoothing)."""
    design = np.stack([logit.astype(np.float64), np.ones(len(logit))], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(25):
        chance = 1.0 / (1.0 + np.exp(-design @ weights))
        gradient = design.T @ (chance - positive)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def fit_temperature(logits: NDArray[np.floating], label: NDArray[np.integer]) -> float:
    """Temperature that minimises log loss of softmax(logits / temperature) (Guo et al., ICML 2017)."""
    grid = np.geomspace(0.25, 4.0, 400)
    losses = [-np.log(softmax(logits / t)[np.arange(len(label)), label] + 1e-12).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def fit_smoothed(logits: NDArray[np.floating], label: NDArray[np.integer]) -> tuple[float, float]:
    """Temperature and smoothing that minimise log loss of unsmoothed(softmax(logits / temperature), smoothing)."""
    cases = np.arange(len(label))
    best = (np.inf, 1.0, 0.0)
    for temperature in np.geomspace(0.5, 3.0, 120):
        probability = softmax(logits / temperature)
        for smoothing in np.linspace(0.0, 0.3, 61):
            loss = -np.log(unsmoothed(probability, smoothing)[cases, label]).mean()
            best = min(best, (float(loss), float(temperature), float(smoothing)))
    return best[1], best[2]


def unsmoothed(probability: NDArray[np.floating], smoothing: float) -> NDArray[np.float64]:
    """Probabilities [n, k] of a classifier that learned smoothed labels, as of one that learned the labels themselves.

    Smoothed labels (Szegedy et al., CVPR 2016) teach (1 - smoothing) p + smoothing / k, so even a sure answer stays
    below 1: this turns it back. What falls below 0 is bent to just above it.
    """
    rest = probability.astype(np.float64) - smoothing / probability.shape[-1]
    bent = rest + np.sqrt(rest * rest + SOFT * SOFT)
    return bent / bent.sum(axis=-1, keepdims=True)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    exponent = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def sigmoid(logit: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of a logit."""
    return 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
