"""The background rows of a version: their order, their cuts, what the admission is told of them."""

from __future__ import annotations

import math

import pytest

from inference.decisions.background_band import REQUESTS_MAX, BackgroundBand
from inference.decisions.background_share import BackgroundPolicy
from inference.errors import QueueFull
from inference.request import Priority, Request
from tests.inference.bounds_only import BoundsOnly
from tests.inference.decisions.test_admission import BOUNDS
from tests.inference.requests import request

POLICY = BackgroundPolicy(0.005, 0.05)


class Told(BoundsOnly):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(BOUNDS)
        self.told: list[tuple[object, ...]] = []
        self.cost.observe(1, 0.002)
        self.cost.a_s, self.cost.b_s = 0.001, 0.001

    def background_started(self, runner: int, rows: int, now: float) -> None:
        self.told.append(("started", runner, rows, now))

    def background_changed(self, share: float, ahead_s: float) -> None:
        self.told.append(("changed", share, round(ahead_s, 6)))

    def batch_finished(self, runner: int, rows: int, run_s: float, now: float) -> None:
        self.told.append(("finished", runner, rows, round(run_s, 6)))

    def batch_lost(self, runner: int, rows: int, now: float) -> None:
        self.told.append(("lost", runner, rows))


@pytest.fixture
def told() -> Told:
    return Told()


def job(name: str, rows: int) -> Request:
    return request(name, rows, timeout_s=math.inf, priority=Priority.BACKGROUND)


def band(told: Told, rows_max: int | None = 8) -> BackgroundBand:
    return BackgroundBand(told, POLICY, rows_max)


def started(made: BackgroundBand, runner: int, now: float = 0.0) -> tuple[str, int, int]:
    (part,) = made.start(runner, now).slices
    return part.request.id, part.start, part.stop


def test_requests_run_in_the_order_in_which_they_came_slice_by_slice(told: Told) -> None:
    made = band(told)
    assert made.submit(job("first", 6), 1, 0.0) is None
    assert made.submit(job("second", 2), 1, 0.0) is None
    assert (made.rows, made.requests) == (8, 2)
    assert [started(made, n) for n in range(3)] == [("first", 0, 3), ("first", 3, 6), ("second", 0, 2)]
    assert (made.rows, made.requests) == (0, 2)
    for runner in (2, 1, 0):
        made.finished(runner, 0.004, 0.01)
    assert (made.requests, made.rows_run) == (0, 8)
    assert made.busy_s == pytest.approx(0.03)


def test_more_requests_than_may_wait_are_refused(told: Told) -> None:
    made = band(told)
    for n in range(REQUESTS_MAX):
        assert made.submit(job(f"r{n}", 1), 1, 0.0) is None
    refusal = made.submit(job("more", 1), 1, 0.0)
    assert isinstance(refusal, QueueFull)
    assert "background requests" in str(refusal)
    started(made, 0)
    made.finished(0, None, 0.01)
    assert made.submit(job("again", 1), 1, 0.0) is None


def test_the_admission_hears_when_there_is_background_work_and_when_no_more(told: Told) -> None:
    made = band(told)
    made.submit(job("a", 2), 2, 0.0)
    started(made, 7, 1.0)
    made.finished(7, 0.002, 1.5)
    assert told.told == [
        ("changed", 0.05, 0.005 + 0.05 * 2 * 0.009),
        ("started", 7, 2, 1.0),
        ("finished", 7, 2, 0.002),
        ("changed", 0.0, 0.0),
    ]


def test_what_a_batch_took_is_its_time_with_the_runner_where_nobody_says(told: Told) -> None:
    made = band(told)
    made.submit(job("a", 2), 1, 0.0)
    started(made, 0, 1.0)
    made.finished(0, None, 1.25)
    assert ("finished", 0, 2, 0.25) in told.told


def test_a_runner_that_was_lent_is_none_of_its_business(told: Told) -> None:
    made = band(told)
    made.finished(3, None, 1.0)
    assert made.lost(3, 1.0) == []
    assert told.told == []


def test_a_request_that_is_cancelled_runs_no_further(told: Told) -> None:
    made = band(told)
    gone, other = job("gone", 6), job("other", 1)
    made.submit(gone, 1, 0.0)
    made.submit(other, 1, 0.0)
    started(made, 0)
    assert made.cancel(gone)
    assert not made.cancel(gone)
    assert started(made, 1) == ("other", 0, 1)
    made.finished(0, 0.004, 0.01)
    assert made.requests == 1


def test_a_lost_runner_names_what_it_took_along_unless_nobody_waits(told: Told) -> None:
    made = band(told)
    made.submit(job("a", 6), 1, 0.0)
    started(made, 0)
    started(made, 1)
    (part,) = made.lost(1, 1.0)
    assert (part.start, part.stop) == (3, 6)
    made.cancel(part.request)
    assert made.lost(0, 1.0) == []
    assert [item for item in told.told if item[0] == "lost"] == [("lost", 1, 3), ("lost", 0, 3)]


def test_a_model_that_takes_no_batches_runs_each_request_whole(told: Told) -> None:
    made = band(told, rows_max=None)
    made.submit(job("a", 1), 1, 0.0)
    assert started(made, 0) == ("a", 0, 1)


def test_new_limits_hold_for_the_next_batch(told: Told) -> None:
    made = band(told)
    made.submit(job("a", 8), 1, 0.0)
    made.change_policy(BackgroundPolicy(0.003, 0.2), 8, 1)
    assert started(made, 0) == ("a", 0, 2)
    assert told.told[1] == ("changed", 0.2, 0.0048)
