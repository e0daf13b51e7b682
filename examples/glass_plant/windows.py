"""Windows of 32 rows cut from simulated runs: what the sensor model is trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.glass_plant.line import hold_last, simulate_line

WINDOW_ROWS = 32
RUN_ROWS = 1500  # 12.5 hours of 30 s


@dataclass(frozen=True)
class WindowSet:
    """Windows of one split.

    `rows` float32 [n, 32, 3] raw units with dropped readings held; `defect` bool [n] and `probability` float64 [n],
    outcome and latent truth at each window's last row; `run` int [n], the campaign that a window was cut from.
    """

    rows: NDArray[np.float32]
    defect: NDArray[np.bool_]
    probability: NDArray[np.float64]
    run: NDArray[np.int64]


def cut_windows(seed: int, runs: int, stride: int, run_rows: int = RUN_ROWS) -> WindowSet:
    """Simulate `runs` campaigns from `seed` and cut a window every `stride` rows; splits take different seeds."""
    line = simulate_line(seed, runs, run_rows)
    held = hold_last(line.sensors)
    cut = np.lib.stride_tricks.sliding_window_view(held, WINDOW_ROWS, axis=1)[:, ::stride]
    rows = np.ascontiguousarray(cut.swapaxes(2, 3)).reshape(-1, WINDOW_ROWS, held.shape[2])
    last = slice(WINDOW_ROWS - 1, None, stride)
    run = np.repeat(np.arange(runs), cut.shape[1])
    return WindowSet(rows, line.defect[:, last].ravel(), line.defect_probability[:, last].ravel(), run)


def shorten(rows: NDArray[np.float32], known: NDArray[np.int64] | int) -> NDArray[np.float32]:
    """Windows as a server sees them when only the last `known` rows have arrived: the oldest one is repeated.

    `rows` [n, 32, 3]; `known` in 1..32, one for all windows or one each. `known` = 1 repeats the last row 32 times.
    """
    first = np.broadcast_to(WINDOW_ROWS - np.asarray(known), len(rows))
    index = np.maximum(np.arange(WINDOW_ROWS), first[:, None])
    return rows[np.arange(len(rows))[:, None], index]


def shorten_some(rows: NDArray[np.float32], share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Shorten a random `share` of the windows, a third of them to one row, the rest to any length below 32."""
    known = rng.integers(1, WINDOW_ROWS, len(rows))
    known = np.where(rng.random(len(rows)) < 1 / 3, 1, known)
    return shorten(rows, np.where(rng.random(len(rows)) < share, known, WINDOW_ROWS))
