"""Percentiles, what a refusal costs the goal, and when a run is void."""

from __future__ import annotations

from array import array
from math import inf

import pytest

from inference.cli.load_figures import LATE_S, LoadRun, crowded, figures, keeps, lag, percentile


def run_of(
    latencies_ms: list[float],
    statuses: list[int] | None = None,
    late_ms: list[float] | None = None,
    waited_ms: list[float] | None = None,
) -> LoadRun:
    """A run with a request each 10 ms: answered, seen and sent after these times."""
    count = len(latencies_ms)
    due = [0.01 * place for place in range(count)]
    late = late_ms or [0.0] * count
    return LoadRun(
        array("d", due),
        array("d", [time + ms / 1000 for time, ms in zip(due, late, strict=True)]),
        array("d", [time + ms / 1000 for time, ms in zip(due, waited_ms or late, strict=True)]),
        array("d", [time + ms / 1000 for time, ms in zip(due, latencies_ms, strict=True)]),
        array("h", statuses or [200] * count),
    )


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 0)] == [50, 99, 100, 1]
    assert percentile([], 0.5) == inf


def test_latency_counts_from_when_the_request_was_due() -> None:
    run = run_of([7.0], late_ms=[3.0])
    assert run.latencies() == pytest.approx([0.007])
    assert run.service_times() == pytest.approx([0.004])


def test_refused_and_failed_are_told_apart() -> None:
    seen = figures(run_of([1, 2, 3, 4, 5, 6], [200, 503, 429, 500, 0, 504]), seconds=2)
    assert (seen.requests, seen.rate_s, seen.answered, seen.refused, seen.failed) == (6, 3, 1, 2, 3)
    assert (seen.p50_ms, seen.p99_ms) == pytest.approx((1, 1))


@pytest.mark.parametrize(("refused", "kept"), [(1, True), (2, False)])
def test_a_refused_request_was_never_answered(refused: int, *, kept: bool) -> None:
    statuses = [503] * refused + [200] * (100 - refused)
    assert keeps(run_of([1.0] * 100, statuses), goal_s=0.01) is kept


def test_the_goal_is_the_99th_percentile() -> None:
    assert keeps(run_of([5.0] * 99 + [500.0]), goal_s=0.0051)
    assert not keeps(run_of([5.0] * 98 + [500.0] * 2), goal_s=0.0051)


def test_a_generator_that_kept_up_is_not_blamed() -> None:
    assert lag(run_of([1.0] * 200, late_ms=[1.0] * 99 + [50.0] + [1.0] * 100)) == ""
    assert lag(run_of([])) == ""


def test_too_many_late_requests_void_a_run() -> None:
    late = [LATE_S * 1000 + 1] * 5 + [0.0] * 195
    assert lag(run_of([20.0] * 200, late_ms=late)) == "the generator came more than 5 ms late to 2.5% of its requests"


def test_what_counts_as_late_can_be_given() -> None:
    run = run_of([20.0] * 200, late_ms=[6.0] * 200)
    assert lag(run, late_s=0.01) == figures(run, 2.0, late_s=0.01).lag == ""
    assert "more than 5 ms late" in figures(run, 2.0).lag


def test_falling_back_at_the_end_voids_a_run() -> None:
    assert (
        lag(run_of([9.0] * 1000, late_ms=[0.0] * 994 + [6.0] * 6))
        == "the generator came 6 ms late to the last requests"
    )
    assert lag(run_of([9.0] * 1000, late_ms=[6.0] * 6 + [0.0] * 994)) == ""


def test_what_the_generator_never_came_to_voids_a_run() -> None:
    assert "late to 50.0% of its requests" in lag(run_of([1.0, 1.0], late_ms=[0.0, inf]))


def test_a_wait_for_a_connection_is_the_servers_doing() -> None:
    run = run_of([50.0] * 100, waited_ms=[40.0] * 2 + [0.0] * 98)
    assert lag(run) == ""
    assert crowded(run) == figures(run, 1.0).crowded == "2.0% of the requests waited for a free connection"
    assert crowded(run_of([50.0] * 100, waited_ms=[40.0] + [0.0] * 99)) == ""
    assert crowded(run_of([])) == ""
