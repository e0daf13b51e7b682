"""Runners that bring nothing are noticed, given up, and tried again after ever longer times."""

from __future__ import annotations

import pytest

from inference.decisions.runner_gain import AGE_MAX_S, BAR_FIRST_S, BAR_MAX_S, RunnerGain
from inference.decisions.runner_load import Load, RunnerBounds, Window


def pressed(runners: int, rows_per_s: int, *, wait_s: float = 1.0, seconds: float = 2.0, batches: int = 100) -> Window:
    """Pressure: twice as many rows arrive as run, and all runners are busy."""
    rows = int(rows_per_s * seconds)
    return Window(seconds, 2 * rows, 0, rows, rows * wait_s, rows, batches, runners * seconds)


def show(gain: RunnerGain, window: Window, runners: int, now: float = 0.0) -> int:
    return gain.observe(window, Load(RunnerBounds(), runners), now)


@pytest.mark.parametrize(
    ("with_two", "kept"), [(100, 1), (80, 1), (120, 1), (130, 2), (200, 2)], ids=lambda value: str(value)
)
def test_a_second_runner_stays_for_a_quarter_of_a_runner_more(with_two: int, kept: int):
    gain = RunnerGain()
    assert show(gain, pressed(1, 100), 1) == 1
    assert show(gain, pressed(2, with_two), 2) == kept


def test_of_three_runners_the_first_that_pays_is_kept():
    gain = RunnerGain()
    for runners, rows_per_s in ((1, 100), (2, 150)):
        show(gain, pressed(runners, rows_per_s), runners)
    assert show(gain, pressed(3, 150), 3) == 2


def test_two_runners_that_bring_nothing_go_at_once():
    gain = RunnerGain()
    for runners in (1, 2):
        gain.observe(pressed(runners, 100, seconds=0.5), Load(RunnerBounds(), runners), 0.0)
    assert show(gain, pressed(3, 100), 3) == 1
    assert gain.ceiling(0.0) == 1


def test_runners_that_bring_nothing_together_leave_one_to_be_tried_alone():
    gain = RunnerGain()
    show(gain, pressed(2, 100), 2)
    assert show(gain, pressed(4, 110), 4) == 2
    assert gain.ceiling(0.0) == 3
    assert gain.careful


def test_the_bar_lasts_twice_as_long_each_time_up_to_a_limit():
    gain, now, lasts = RunnerGain(), 0.0, []
    for _ in range(7):
        show(gain, pressed(1, 100), 1, now)
        assert show(gain, pressed(2, 100), 2, now) == 1
        assert gain.ceiling(now) == 1
        until = next(s for s in range(2000) if gain.ceiling(now + s) is None)
        lasts.append(until)
        now += until
    assert lasts == [60, 120, 240, 480, 960, 960, 960]
    assert (BAR_FIRST_S, BAR_MAX_S) == (60.0, 960.0)


def test_a_runner_that_pays_at_last_clears_the_record():
    gain = RunnerGain()
    show(gain, pressed(1, 100), 1)
    show(gain, pressed(2, 100), 2)
    assert show(gain, pressed(2, 200), 2, 70.0) == 2
    assert not gain.careful
    show(gain, pressed(1, 200), 1, 80.0)
    assert show(gain, pressed(2, 200), 2, 90.0) == 1
    assert gain.ceiling(149.0) == 1
    assert gain.ceiling(150.0) is None  # 60 s again, not 120


def test_waits_that_halved_are_a_gain():
    gain = RunnerGain()
    show(gain, pressed(1, 100, wait_s=0.1), 1)
    assert show(gain, pressed(2, 100, wait_s=0.05), 2) == 2


def test_runners_are_kept_while_fewer_could_not_be_trusted_with_what_arrives():
    gain = RunnerGain()
    show(gain, pressed(1, 100), 1)
    just_enough = Window(2.0, 210, 0, 210, 210.0, 210, 100, 4.0)
    assert show(gain, just_enough, 2) == 2


def test_a_window_that_is_short_or_holds_few_batches_tells_nothing():
    gain = RunnerGain()
    show(gain, pressed(1, 100), 1)
    assert show(gain, pressed(2, 100, seconds=0.5), 2) == 2
    assert show(gain, pressed(2, 100, batches=15), 2) == 2
    assert show(gain, pressed(2, 100, batches=16), 2) == 1


def test_what_was_reached_long_ago_is_not_compared_with():
    gain = RunnerGain()
    show(gain, pressed(1, 100), 1)
    assert show(gain, pressed(2, 100), 2, AGE_MAX_S + 1) == 2


def test_rows_of_runners_that_were_not_always_busy_are_counted_as_if():
    gain = RunnerGain()
    window = pressed(1, 80)
    part_time = Window(2.0, window.arrived_rows, 0, 160, 160.0, 160, 100, 1.6)
    show(gain, part_time, 1)  # 80 rows/s in 80 % of the time
    assert show(gain, pressed(2, 110), 2) == 1


def test_a_gain_in_waits_alone_does_not_clear_the_record():
    gain = RunnerGain()
    show(gain, pressed(1, 100, wait_s=0.1), 1)
    assert show(gain, pressed(2, 100, wait_s=0.1), 2) == 1
    assert show(gain, pressed(2, 100, wait_s=0.01), 2, 61.0) == 2
    assert show(gain, pressed(2, 100, wait_s=0.1), 2, 62.0) == 1
    assert gain.ceiling(62.0 + 119.0) == 1  # 120 s, though it had seemed to pay in between
