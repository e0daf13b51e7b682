"""Prepared rows as tests make them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.shard import RowFault
from inference.tensor import Array, Tensors


@dataclass
class MadeUp:
    """See PreparedRows; it has no tensors, since outputs are made up too."""

    good: Array
    faults: Sequence[RowFault] = ()
    real_rows: Array | None = None
    input_quality: Array | None = None

    def tensors(self, start: int, stop: int) -> Tensors:
        raise AssertionError("nothing is predicted here")


def all_good(count: int) -> MadeUp:
    """Rows without windows, all good."""
    return MadeUp(np.arange(count))
