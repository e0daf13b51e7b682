"""Calibration on a split of its own; what is found here becomes nodes of the exported graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    exponent = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def sigmoid(logit: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of a logit."""
    return 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
