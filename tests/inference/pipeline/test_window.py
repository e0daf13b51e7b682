"""The rows of a line and the windows over them, as stories of rows that come in time, late, twice, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InvalidValues, RowConflict, RowTooLate
from inference.fault import Fault
from inference.pipeline.features import Reading
from inference.pipeline.window import LineStore, Window, as_time

ROWS, HELD = 4, 6


def store(lines_max: int = 100, idle_s: float = 60.0) -> LineStore:
    return LineStore(("a", "b"), ROWS, rows_held=HELD, lines_max=lines_max, idle_s=idle_s)


def values(number: float) -> Reading:
    return Reading([number, -number])


def gap(number: float, *missing: int) -> Reading:
    return Reading([number, -number], [(index, Fault("ab"[index], "nothing", "a number")) for index in missing])


def put(lines: LineStore, number: float, time_us: int | None = None, *, line: str = "L1", now_s: float = 0.0) -> Window:
    return lines.put(line, values(number), time_us, 1000, now_s)


def firsts(window: Window) -> list[float]:
    """The first feature of each row of a window."""
    assert window.rows.shape == (1, ROWS, 2)
    assert window.rows.dtype == np.float32
    assert (window.rows[0, :, 0] == -window.rows[0, :, 1]).all()
    return window.rows[0, :, 0].tolist()


def test_the_first_row_fills_the_window_and_later_ones_push_it_out() -> None:
    lines = store()
    windows = [put(lines, number, time_us=10 * number) for number in range(1, 7)]
    assert [firsts(window) for window in windows] == [
        [1, 1, 1, 1],
        [1, 1, 1, 2],
        [1, 1, 2, 3],
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 6],
    ]
    assert [window.real_rows for window in windows] == [1, 2, 3, 4, 4, 4]


def test_a_row_of_no_line_is_repeated_and_kept_by_none() -> None:
    lines = store()
    window = lines.alone(values(7))
    assert firsts(window) == [7, 7, 7, 7]
    assert (window.real_rows, window.measured_share, len(lines)) == (1, 1.0, 0)
    with pytest.raises(InvalidValues):
        lines.alone(gap(7, 0))


def test_a_window_that_was_given_out_does_not_change() -> None:
    lines = store()
    window = put(lines, 1, 10)
    put(lines, 2, 20)
    assert firsts(window) == [1, 1, 1, 1]


def test_lines_do_not_see_each_other() -> None:
    lines = store()
    put(lines, 1, 10, line="L1")
    assert firsts(put(lines, 9, 10, line="L2")) == [9, 9, 9, 9]


def test_a_late_row_is_answered_at_its_time_and_part_of_later_windows() -> None:
    lines = store()
    for number in (1, 2, 4):
        put(lines, number, 10 * number)
    assert firsts(put(lines, 3, 30)) == [1, 1, 2, 3]
    assert firsts(put(lines, 5, 50)) == [2, 3, 4, 5]


def test_a_row_before_the_first_one_begins_the_line() -> None:
    lines = store()
    put(lines, 2, 20)
    late = put(lines, 1, 10)
    assert firsts(late) == [1, 1, 1, 1]
    assert late.real_rows == 1
    assert firsts(put(lines, 3, 30)) == [1, 1, 2, 3]


def test_a_row_whose_window_is_no_longer_held_is_too_late_and_the_error_says_from_when() -> None:
    lines = store()
    for number in range(1, 10):
        put(lines, number, 10 * number)
    with pytest.raises(RowTooLate) as caught:
        put(lines, 5.5, 55)  # rows 4 to 9 are held, and three rows before 55 are not
    assert as_time(60) in caught.value.details[0].accepted
    assert firsts(put(lines, 6.5, 65)) == [4, 5, 6, 6.5]


def test_a_retry_is_answered_over_the_same_window_and_changes_nothing() -> None:
    lines = store()
    for number in range(1, 6):
        put(lines, number, 10 * number)
    again = put(lines, 3, 30)
    assert firsts(again) == [1, 1, 2, 3]
    assert again.real_rows == 3
    assert firsts(put(lines, 6, 60)) == [3, 4, 5, 6]


def test_other_values_at_the_same_time_are_a_conflict_that_names_them() -> None:
    lines = store()
    put(lines, 1, 10)
    with pytest.raises(RowConflict) as caught:
        lines.put("L1", Reading([1, -7]), 10, 0, 0.0)
    assert caught.value.details == (Fault("data.b", "-7", "-1, as before"),)
    assert firsts(put(lines, 2, 20)) == [1, 1, 1, 2]


def test_rows_without_a_time_come_in_the_order_of_arrival_even_within_one_microsecond() -> None:
    lines = store()
    put(lines, 1)
    put(lines, 2)
    assert firsts(put(lines, 3)) == [1, 1, 2, 3]


def test_a_held_value_lowers_the_measured_share_of_the_windows_that_it_is_part_of() -> None:
    lines = store()
    put(lines, 1, 10)
    window = lines.put("L1", gap(2, 0), 20, 0, 0.0)
    assert window.rows[0, -1].tolist() == [1, -2]
    assert window.measured_share == 0.75  # three of the four values of two known rows
    assert put(lines, 3, 30).measured_share == pytest.approx(5 / 6)
    for number in (4, 5, 6):
        last = put(lines, number, 10 * number)
    assert last.measured_share == 1.0


def test_a_retry_of_a_row_with_a_gap_has_to_have_the_gap_again() -> None:
    lines = store()
    put(lines, 1, 10)
    first = lines.put("L1", gap(2, 0), 20, 0, 0.0)
    again = lines.put("L1", gap(2, 0), 20, 0, 0.0)
    assert (again.rows == first.rows).all()
    assert again.measured_share == first.measured_share
    with pytest.raises(RowConflict) as caught:
        put(lines, 2, 20)
    assert caught.value.details == (Fault("data.a", "2", "nothing, as before"),)


def test_a_value_is_held_for_less_than_a_window() -> None:
    lines = store()
    put(lines, 1, 10)
    for time_us in (20, 30, 40):
        lines.put("L1", gap(2, 0), time_us, 0, 0.0)
    with pytest.raises(InvalidValues) as caught:
        lines.put("L1", gap(2, 0), 50, 0, 0.0)
    assert [fault.field for fault in caught.value.details] == ["a"]
    assert put(lines, 6, 60).real_rows == ROWS


def test_a_refused_row_leaves_no_line_behind() -> None:
    lines = store()
    with pytest.raises(InvalidValues):
        lines.put("new", gap(1, 0), 10, 0, 0.0)
    assert "new" not in lines
    assert len(lines) == 0


def test_an_idle_line_is_forgotten() -> None:
    lines = store(idle_s=60)
    put(lines, 1, 10, now_s=0)
    put(lines, 2, 20, now_s=60)
    assert firsts(put(lines, 3, 30, now_s=120.1)) == [3, 3, 3, 3]


def test_beyond_the_limit_the_line_idle_for_longest_is_forgotten() -> None:
    lines = store(lines_max=2)
    put(lines, 1, 10, line="A")
    put(lines, 1, 10, line="B")
    put(lines, 2, 20, line="A")
    put(lines, 1, 10, line="C")
    assert ("A" in lines, "B" in lines, "C" in lines) == (True, False, True)
    assert len(lines) == 2


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 2)), min_size=1, max_size=60))
def test_every_window_is_the_one_that_a_plain_sorted_list_gives(story: list[tuple[int, int]]) -> None:
    """Rows at any times with either of two values, against rows kept in a dictionary."""
    lines = store()
    known: dict[int, int] = {}
    trimmed = False
    for time_us, number in story:
        held = sorted(known)
        before = [time for time in held if time < time_us]
        try:
            window = put(lines, number, time_us)
        except RowTooLate:
            assert trimmed
            assert len(before) < ROWS - 1
            continue
        except RowConflict:
            assert known[time_us] != number
            continue
        assert not trimmed or len(before) >= ROWS - 1
        assert known.setdefault(time_us, number) == number
        expected = [known[time] for time in (*before, time_us)][-ROWS:]
        assert window.real_rows == len(expected)
        assert firsts(window) == [expected[0]] * (ROWS - len(expected)) + expected
        if len(known) > HELD:
            del known[min(known)]
            trimmed = True


def test_times_read_as_rfc_3339() -> None:
    assert as_time(1764928800_000_000) == "2025-12-05T10:00:00Z"
    assert as_time(-1) == "1969-12-31T23:59:59.999999Z"


def gaps(steps: list[int], told_s: list[float] | None = None, interval_us: int = 0) -> list[tuple[int, int, int]]:
    """Number of the row, step and usual step of each gap that a line tells when its rows come so far apart."""
    lines = LineStore(("a", "b"), ROWS, rows_held=40, lines_max=10, idle_s=1e9, interval_us=interval_us)
    found, time_us = [], 0
    for number, step in enumerate(steps):
        time_us += step
        window = put(lines, number, time_us, now_s=told_s[number] if told_s else 1e6 * number)
        if window.gap is not None:
            found.append((number, *window.gap))
    return found


def test_a_step_of_more_than_three_usual_ones_is_a_gap() -> None:
    assert gaps([10] * 20 + [30] + [10] * 5 + [31, 10]) == [(26, 31, 10)]


def test_where_the_model_states_the_interval_one_missing_row_is_a_gap() -> None:
    assert gaps([10] * 20 + [17, 18, 10, 3], interval_us=10) == [(21, 18, 10)]


def test_one_row_in_two_of_a_line_is_told_from_a_slow_line_by_the_stated_interval() -> None:
    split_in_turn = [20] * 20
    assert [number for number, _, _ in gaps(split_in_turn, interval_us=10)] == list(range(9, 20))
    assert gaps(split_in_turn) == []


def test_a_line_that_is_young_has_no_usual_step() -> None:
    assert gaps([10] * 7 + [500, 10, 10]) == []


def test_what_is_usual_follows_the_line() -> None:
    """A line that is switched to a slower cadence is told of at first, and then it is its cadence."""
    found = gaps([10] * 20 + [100] * 60)
    assert found[0] == (20, 100, 10)
    assert max(number for number, _, _ in found) < 60


def test_a_gap_is_told_once_in_an_hour_and_counted_each_time() -> None:
    steps = [10] * 10 + [50, 10, 50, 10, 50]
    assert gaps(steps, [0.0] * 15) == [(10, 50, 10)]
    assert gaps(steps, [0.0] * 12 + [3599.0] * 2 + [3600.0]) == [(10, 50, 10), (14, 50, 10)]
    lines = store()
    for number, step in enumerate(steps):
        put(lines, number, sum(steps[:number]) + step)
    assert lines.gaps == 3


def test_late_and_repeated_rows_are_no_gaps() -> None:
    lines = store()
    for number in range(20):
        put(lines, number, 10 * number)
    assert put(lines, 19, 190).gap is None
    assert put(lines, 18.5, 185).gap is None
    assert lines.gaps == 0


def test_a_line_of_one_row_has_no_steps() -> None:
    lines = LineStore(("a", "b"), 1, rows_held=1, lines_max=10, idle_s=60.0)
    for number in range(30):
        lines.put("L1", values(number), 10 * number * number, 1000, 0.0)
    assert lines.gaps == 0


def test_a_line_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    line = store().new_line()
    assert line.newest_us is None
    for number in range(1, 9):
        line.put(gap(number, 0) if number % 3 == 0 else values(number), 10 * number, 0, "L1")
    other = store().new_line()
    other.restore(line.state())
    assert line.newest_us == other.newest_us == 80
    assert line.state().trimmed
    for each in (line, other):
        window = each.put(gap(9, 1), 90, 0, "L1")
        assert window.rows[0].tolist() == [[5, -6], [7, -7], [8, -8], [9, -8]]
        assert window.measured_share == 0.75  # of eight values two are held
    assert (line.newest().rows == other.newest().rows).all()
    assert line.newest().measured_share == other.newest().measured_share
    for each in (line, other):
        with pytest.raises(RowTooLate):
            each.put(values(0.5), 5, 0, "L1")
