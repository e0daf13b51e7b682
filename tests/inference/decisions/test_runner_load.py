"""Totals of a version become figures: what a window held, and what the smoothed figures settle at."""

from __future__ import annotations

import pytest

from inference.decisions.runner_load import Load, LoadTrace, RunnerBounds, between

BOUNDS = RunnerBounds()


def test_a_window_is_the_difference_of_two_readings():
    before = Load(BOUNDS, 1, 9, 0.5, 0.0, 100, 10, 20, 2.0, 80, 40, 3.0)
    after = Load(BOUNDS, 2, 0, 0.0, 0.0, 150, 15, 30, 2.5, 140, 60, 5.0)
    window = between(before, after, 2.0)
    assert (window.arrived_rows, window.refused_rows, window.finished_rows, window.batches) == (50, 5, 60, 20)
    assert (window.rows_per_s, window.wait_s, window.busy_s) == (30.0, 0.05, 2.0)


def test_nobody_taken_up_is_no_wait():
    assert between(Load(BOUNDS, 1), Load(BOUNDS, 1), 1.0).wait_s == 0.0


def steady(seconds: int, *, runners: int = 2, row_s: float = 0.0, oldest_wait_s: float = 0.0) -> LoadTrace:
    """A version of which each second 100 rows arrive, 10 are refused, and 90 run in 1.5 runner-seconds after 30 ms."""
    trace = LoadTrace(Load(BOUNDS, runners), 0.0)
    for second in range(1, seconds + 1):
        n = second
        load = Load(
            BOUNDS, runners, 12, oldest_wait_s, row_s, 100 * n, 10 * n, 90 * n, 90 * 0.03 * n, 90 * n, 30 * n, 1.5 * n
        )
        assert trace.observe(load, float(second))
    return trace


def test_a_steady_load_shows_in_every_figure():
    trace = steady(20)
    assert trace.busy_runners == pytest.approx(1.5)
    assert trace.utilisation == pytest.approx(0.75)
    assert trace.delay_s == pytest.approx(0.03)
    assert trace.refused_share == pytest.approx(0.1)
    assert trace.demand_runners == pytest.approx(100 * 1.5 / 90)  # refused rows want a runner as well
    assert trace.usual_demand_runners == pytest.approx(100 * 1.5 / 90, rel=1e-3)
    assert trace.backlog_s == pytest.approx(12 * 1.5 / 90 / 2)
    assert trace.predicted_delay_s == pytest.approx(12 * 1.5 / 90 / 2 / 0.9)


def test_a_told_row_time_goes_before_the_observed_one():
    assert steady(20, row_s=0.005).demand_runners == pytest.approx(0.5)


def test_who_still_waits_counts_before_being_taken_up():
    assert steady(20, oldest_wait_s=4.0).delay_s == 4.0


def test_a_figure_follows_within_two_seconds():
    trace = steady(2)
    assert trace.utilisation == pytest.approx(0.75, rel=0.03)


def test_the_usual_demand_takes_longer_to_follow():
    trace = steady(2)
    assert trace.demand_runners > 1.6
    assert trace.usual_demand_runners < 1.2


def test_a_second_reading_at_the_same_time_is_not_one():
    trace = LoadTrace(Load(BOUNDS, 1), 5.0)
    assert not trace.observe(Load(BOUNDS, 1, arrived_rows=7), 5.0)
    assert trace.load.arrived_rows == 0


def test_no_runners_are_not_busy():
    assert LoadTrace(Load(BOUNDS, 0), 0.0).utilisation == 0.0
