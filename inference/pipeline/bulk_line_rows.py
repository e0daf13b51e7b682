"""The rows of a block that belong to lines, and the windows that end at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.lib.stride_tricks import as_strided

from inference.errors import InferenceError
from inference.pipeline.features import Reading
from inference.tensor import Array


@dataclass(slots=True, frozen=True, eq=False)
class LineRows:
    """The rows of a block that belong to lines, n in the block.

    `names`: the lines; `lines` INT64 [n]: the place of a row's line in them, -1 for a row that is no part of this.
    `faulty` BOOL [n]: rows of a line that enter it in no case, but may be told that they are too late. `times_us` INT64
    [n]; None: rows come in the order of their time. `values` FP32 [n, features]; `gaps` BOOL [n, features] or None:
    values that are held from the row before. `reading(row)`: the row as the live path reads it.
    """

    names: Sequence[str]
    lines: Array
    faulty: Array
    times_us: Array | None
    values: Array
    gaps: Array | None
    reading: Callable[[int], Reading]


@dataclass(slots=True, eq=False)
class Windows:
    """The windows that end at the rows of a block.

    `rows` FP32 [places, features]; `ends` INT64 [n]: the place of a row's own values, which end its window there.
    `accepted` BOOL [n]; `real_rows` INT16 [n]; `quality` FLOAT64 [n] or None if all values were measured; `refused`:
    errors by row.
    """

    rows: Array
    ends: Array
    accepted: Array
    real_rows: Array
    quality: Array | None
    refused: dict[int, InferenceError]

    def all_stretches(self, window_rows: int) -> Array:
        """Every stretch of so many rows, by its first one: a view [places - window_rows + 1, window_rows, features]."""
        places, features = self.rows.shape
        row_bytes, value_bytes = self.rows.strides
        shape, strides = (max(0, places - window_rows + 1), window_rows, features), (row_bytes, row_bytes, value_bytes)
        return as_strided(self.rows, shape, strides, writeable=False)
