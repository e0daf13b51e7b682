"""The scheduler tells what runs next: each test is a short story of events and the decisions they lead to."""

from __future__ import annotations

import pytest

from inference.decisions.scheduler import Decision, Expire, QueuePolicy, Refuse, Run, Scheduler
from inference.errors import DeadlinePassed, QueueFull, TooLarge
from tests.inference.requests import request


def scheduler(knee: int | None = 4, *, runners: int = 1, rows_max: int = 100, bytes_max: int = 10_000) -> Scheduler:
    made = Scheduler(QueuePolicy("adder/1", rows_max, bytes_max, knee))
    for runner in range(runners):
        assert made.runner_idle(runner) == []
    return made


def ran(decisions: list[Decision]) -> list[tuple[int, list[tuple[str, int, int]]]]:
    """Decisions as (runner, [(request, from row, to row)])."""
    assert all(isinstance(decision, Run) for decision in decisions)
    return [
        (d.runner, [(part.request.id, part.start, part.stop) for part in d.batch.slices])
        for d in decisions
        if isinstance(d, Run)
    ]


def test_a_lone_request_runs_at_once():
    assert ran(scheduler().submit(request("a"), 0.0)) == [(0, [("a", 0, 1)])]


def test_the_next_batch_is_what_queued_meanwhile():
    plan = scheduler()
    plan.submit(request("a"), 0.0)
    for name in "bcdef":
        assert plan.submit(request(name), 0.0) == []
    assert ran(plan.runner_idle(0)) == [(0, [("b", 0, 1), ("c", 0, 1), ("d", 0, 1), ("e", 0, 1)])]
    assert ran(plan.runner_idle(0)) == [(0, [("f", 0, 1)])]
    assert plan.runner_idle(0) == []
    assert plan.live_requests == 0


def test_every_idle_runner_gets_work():
    plan = scheduler(knee=1, runners=2)
    assert ran(plan.submit(request("a"), 0.0)) == [(1, [("a", 0, 1)])]
    assert ran(plan.submit(request("b"), 0.0)) == [(0, [("b", 0, 1)])]
    assert plan.submit(request("c"), 0.0) == []


def test_unlike_requests_never_share_a_batch_and_the_older_group_goes_first():
    plan = scheduler()
    plan.submit(request("a"), 0.0)
    for name, group in (("b", "wide"), ("c", "narrow"), ("d", "wide")):
        plan.submit(request(name, group=group), 0.0)
    assert ran(plan.runner_idle(0)) == [(0, [("b", 0, 1), ("d", 0, 1)])]
    assert ran(plan.runner_idle(0)) == [(0, [("c", 0, 1)])]


def test_a_model_that_does_not_batch_runs_each_request_alone():
    plan = scheduler(knee=None)
    plan.submit(request("a"), 0.0)
    plan.submit(request("b"), 0.0)
    plan.submit(request("c"), 0.0)
    assert ran(plan.runner_idle(0)) == [(0, [("b", 0, 1)])]


def test_a_request_above_the_knee_is_cut_and_lets_others_in_between():
    plan = scheduler(knee=4)
    assert ran(plan.submit(request("big", rows=10), 0.0)) == [(0, [("big", 0, 4)])]
    plan.submit(request("a"), 0.0)
    assert ran(plan.runner_idle(0)) == [(0, [("big", 4, 8)])]
    assert ran(plan.runner_idle(0)) == [(0, [("a", 0, 1), ("big", 8, 10)])]
    plan.runner_idle(0)
    assert plan.live_requests == 0


def test_a_request_that_fits_a_batch_is_never_cut():
    plan = scheduler(knee=4)
    plan.submit(request("a"), 0.0)
    plan.submit(request("b", rows=3), 0.0)
    plan.submit(request("c", rows=3), 0.0)
    assert ran(plan.runner_idle(0)) == [(0, [("b", 0, 3)])]
    assert ran(plan.runner_idle(0)) == [(0, [("c", 0, 3)])]


@pytest.mark.parametrize(("limits", "what"), [({"rows_max": 2}, "rows"), ({"bytes_max": 8}, "bytes")])
def test_a_full_queue_refuses_and_says_by_what(limits, what):
    plan = scheduler(**limits)
    plan.submit(request("runs"), 0.0)
    plan.submit(request("b"), 0.0)
    plan.submit(request("c"), 0.0)
    (refusal,) = plan.submit(request("d"), 0.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, QueueFull)
    assert what in str(refusal.error)
    assert refusal.error.retry_after_s == 1.0


def test_a_request_above_the_whole_queue_is_too_large_not_told_to_come_again():
    (refusal,) = scheduler(rows_max=8).submit(request("huge", rows=9), 0.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, TooLarge)
    assert refusal.error.retry_after_s is None


def test_who_hangs_up_in_the_queue_frees_the_place_and_never_runs():
    plan = scheduler(rows_max=1)
    plan.submit(request("runs"), 0.0)
    gone = request("gone")
    plan.submit(gone, 0.0)
    assert plan.cancel(gone)
    assert (plan.waiting_rows, plan.waiting_bytes) == (0, 0)
    plan.submit(request("next"), 0.0)
    assert ran(plan.runner_idle(0)) == [(0, [("next", 0, 1)])]


def test_who_hangs_up_half_way_through_a_cut_request_runs_no_further():
    plan = scheduler(knee=4)
    big = request("big", rows=10)
    plan.submit(big, 0.0)
    assert plan.cancel(big)
    assert plan.runner_idle(0) == []
    assert not plan.cancel(big)
    assert (plan.waiting_rows, plan.waiting_bytes, plan.live_requests) == (0, 0, 0)


def test_deadlines_end_what_waits_and_what_runs():
    plan = scheduler()
    running, waiting, patient = request("a", timeout_s=5), request("b", timeout_s=3), request("c", timeout_s=9)
    for made in (running, waiting, patient):
        plan.submit(made, 0.0)
    assert plan.next_deadline() == 3
    assert plan.tick(2.9) == []
    expired = plan.tick(5.0)
    assert [d.request.id for d in expired if isinstance(d, Expire)] == ["b", "a"]
    assert all(isinstance(d.error, DeadlinePassed) for d in expired if isinstance(d, Expire))
    assert ran(plan.runner_idle(0)) == [(0, [("c", 0, 1)])]
    assert plan.next_deadline() == 9


def test_a_request_that_comes_after_its_deadline_is_refused():
    (refusal,) = scheduler().submit(request("late", timeout_s=1), 1.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, DeadlinePassed)


def test_deadlines_of_ended_requests_do_not_pile_up():
    plan = scheduler()
    for _ in range(5000):
        plan.submit(request(), 0.0)
        plan.runner_idle(0)
    assert len(plan._deadlines) < 200
    assert plan.next_deadline() is None


def test_a_runner_is_lent_only_while_nobody_waits():
    plan = scheduler()
    assert plan.borrow_idle() == 0
    assert plan.submit(request("a"), 0.0) == []
    assert plan.borrow_idle() is None
    assert ran(plan.runner_idle(0)) == [(0, [("a", 0, 1)])]


def test_a_lost_runner_names_the_slices_it_took_along():
    plan = scheduler()
    here, gone = request("here", rows=2), request("gone")
    plan.submit(request("first"), 0.0)
    plan.submit(here, 0.0)
    plan.submit(gone, 0.0)
    plan.runner_idle(0)
    plan.cancel(gone)
    assert [(part.request, part.start, part.stop) for part in plan.runner_lost(0)] == [(here, 0, 2)]
    assert plan.runners == 0


def test_a_runner_cannot_fall_idle_twice():
    with pytest.raises(AssertionError, match="twice"):
        scheduler().runner_idle(0)


def test_new_limits_hold_for_the_next_batch():
    plan = scheduler(knee=2)
    plan.submit(request("a"), 0.0)
    for name in "bcd":
        plan.submit(request(name), 0.0)
    plan.change_policy(QueuePolicy("adder/1", 100, 10_000, 8))
    assert ran(plan.runner_idle(0)) == [(0, [("b", 0, 1), ("c", 0, 1), ("d", 0, 1)])]
