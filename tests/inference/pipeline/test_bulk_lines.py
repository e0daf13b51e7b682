"""Windows over many lines at once: where they lie, and what is measured of them."""

from __future__ import annotations

import numpy as np

from inference.pipeline.bulk_line_rows import LineRows, Windows
from inference.pipeline.bulk_line_states import LineStates
from inference.pipeline.bulk_lines import BulkLines
from inference.pipeline.features import Reading
from inference.tensor import Array

ROWS = 3


def block(
    lines: list[int], values: list[float], times_us: list[int] | None, gaps: list[bool] | None = None
) -> LineRows:
    names = [f"L{line}" for line in range(max(lines, default=-1) + 1)]
    given = np.array(values, np.float32).reshape(-1, 1)
    missing = None if gaps is None else np.array(gaps).reshape(-1, 1)

    def reading(row: int) -> Reading:
        return Reading([values[row]])

    return LineRows(
        names,
        np.array(lines, np.int64),
        np.zeros(len(lines), np.bool_),
        None if times_us is None else np.array(times_us, np.int64),
        given,
        missing,
        reading,
    )


def bulk(lines_max: int = 10) -> BulkLines:
    return BulkLines(LineStates(("a",), ROWS, 4, lines_max), refuse_unordered=True)


def shown(windows: Windows) -> list[list[float]]:
    stretches: Array = windows.all_stretches(ROWS)
    return [stretches[end - ROWS + 1, :, 0].tolist() for end in windows.ends]


def test_interleaved_lines_keep_apart_and_go_on_in_the_next_block() -> None:
    lines = bulk()
    first = lines.windows(block([0, 1, 0, 1], [1, 10, 2, 20], [1, 1, 2, 2]), np.array([], np.int64))
    assert shown(first) == [[1, 1, 1], [10, 10, 10], [1, 1, 2], [10, 10, 20]]
    second = lines.windows(block([0, 1, 0], [3, 30, 4], [3, 3, 4]), np.array([], np.int64))
    assert shown(second) == [[1, 2, 3], [10, 20, 30], [2, 3, 4]]
    assert second.real_rows.tolist() == [3, 3, 3]
    assert lines.states.rows_seen == 7


def test_rows_of_no_line_fill_their_windows() -> None:
    windows = bulk().windows(block([-1, 0, -1], [5, 6, 7], None), np.array([0, 2]))
    assert shown(windows) == [[5, 5, 5], [6, 6, 6], [7, 7, 7]]
    assert windows.accepted.all()


def test_the_measured_share_counts_the_known_rows_of_the_window() -> None:
    lines = bulk()
    story = block([0, 0, 0, 0, 0], [1, 0, 3, 4, 5], [1, 2, 3, 4, 5], [False, True, False, False, False])
    windows = lines.windows(story, np.array([], np.int64))
    assert shown(windows)[1] == [1, 1, 1]
    assert windows.quality is not None
    assert windows.quality.tolist() == [1.0, 0.5, round(2 / 3, 6), round(2 / 3, 6), 1.0]


def test_more_lines_than_a_sixteen_bit_number_tells_apart() -> None:
    count = (1 << 16) + 5
    lines = bulk(lines_max=count)
    numbers = [*range(count), 1, count - 1]
    windows = lines.windows(block(numbers, [float(n) for n in numbers], None), np.array([], np.int64))
    assert windows.real_rows[:count].max() == 1
    assert windows.real_rows[count:].tolist() == [2, 2]
    assert shown(windows)[-1] == [count - 1] * 3
