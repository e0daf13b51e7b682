"""Windows are stretches of one array."""

from __future__ import annotations

import numpy as np
import pytest

from inference.pipeline.bulk_line_rows import Windows


def windows_of(rows: int) -> Windows:
    values = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    return Windows(values, np.arange(rows), np.ones(rows, np.bool_), np.ones(rows, np.int16), None, {})


def test_every_stretch_is_seen_and_none_is_copied() -> None:
    windows = windows_of(10)
    stretches = windows.all_stretches(3)
    assert stretches.shape == (8, 3, 2)
    assert all(np.array_equal(stretches[first], windows.rows[first : first + 3]) for first in range(8))
    assert np.shares_memory(stretches, windows.rows)
    with pytest.raises(ValueError, match="read-only"):
        stretches[0] = 0


@pytest.mark.parametrize("rows", [0, 2])
def test_fewer_rows_than_a_window_have_no_stretch(rows: int) -> None:
    assert windows_of(rows).all_stretches(3).shape == (0, 3, 2)
