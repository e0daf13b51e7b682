"""Whose turn it is: priority, waiting, deadline, age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.job_order import TurnPolicy, turn
from inference.job import Dataset, Job, JobCounts, JobSpec, Output, RunSettings
from inference.request import LIVE_PRIORITIES, Priority

POLICY = TurnPolicy()
MINUTE_US = 60_000_000


def job(
    name: str,
    priority: Priority = Priority.NORMAL,
    created_us: int = 0,
    started_us: int | None = None,
    deadline_us: int | None = None,
) -> Job:
    run = RunSettings(priority, deadline_us=deadline_us)
    spec = JobSpec("m", Dataset(("a.csv",), "csv"), Output("o.csv"), run=run)
    return Job(name, "", "m/1", "", spec, "queued", "run", JobCounts(), created_us, started_us)


def order(now_us: int, *jobs: Job) -> str:
    return "".join(one.id for one in sorted(jobs, key=lambda one: turn(one, now_us, POLICY)))


def test_priority_then_deadline_then_age() -> None:
    jobs = [
        job("a", Priority.LOW),
        job("b", created_us=2),
        job("c", created_us=1),
        job("d", created_us=3, deadline_us=9),
        job("e", created_us=4, deadline_us=8),
        job("f", Priority.CRITICAL, created_us=5),
        job("g", Priority.HIGH, created_us=6),
    ]
    assert order(10, *jobs) == "fgedcba"


def test_equal_jobs_have_an_order_all_the_same() -> None:
    assert order(0, job("b"), job("a")) == "ab"


def test_a_job_rises_a_band_each_ten_minutes() -> None:
    low, normal = job("l", Priority.LOW), job("n", created_us=10 * MINUTE_US - 1)
    assert order(10 * MINUTE_US - 1, normal, low) == "nl"
    assert order(10 * MINUTE_US, normal, low) == "ln"


def test_nobody_rises_above_critical_where_age_decides() -> None:
    low = job("l", Priority.LOW)
    first, then = job("c", Priority.CRITICAL, -1, deadline_us=1), job("d", Priority.CRITICAL, 1)
    assert order(10_000 * MINUTE_US, then, low, first) == "cld"


def test_who_runs_keeps_its_band_and_rises_no_more() -> None:
    runs = job("r", Priority.LOW, 0, started_us=10 * MINUTE_US)
    assert turn(runs, 10_000 * MINUTE_US, POLICY)[0] == Priority.NORMAL
    assert order(10_000 * MINUTE_US, runs, job("h", Priority.HIGH, 9_999 * MINUTE_US)) == "hr"


def test_a_clock_that_went_back_lowers_nobody() -> None:
    assert turn(job("a", created_us=MINUTE_US), 0, POLICY)[0] == Priority.NORMAL


@given(
    st.sampled_from(LIVE_PRIORITIES), st.sampled_from(LIVE_PRIORITIES), st.integers(0, 10**12), st.integers(0, 10**12)
)
def test_who_came_first_with_no_less_priority_goes_first(a: Priority, b: Priority, x: int, y: int) -> None:
    early, late = job("b", min(a, b), min(x, y)), job("c", max(a, b), max(x, y))
    assert order(max(x, y), late, early) == "bc"
