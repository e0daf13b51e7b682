"""Rows of jobs beside live ones: they run where a runner would idle, and as far as their share before live rows."""

from __future__ import annotations

import math

from inference.decisions.scheduler import Decision, Refuse, Run, RunBackground, Scheduler
from inference.request import Priority, Request
from tests.inference.decisions.schedulers import names, scheduler
from tests.inference.requests import request


def job(name: str = "job", rows: int = 1) -> Request:
    return request(name, rows, timeout_s=math.inf, priority=Priority.BACKGROUND)


def background(decisions: list[Decision]) -> list[tuple[int, str, int, int]]:
    """(runner, request, from row, to row) of decisions that start nothing but background batches."""
    found = []
    for decision in decisions:
        assert isinstance(decision, RunBackground)
        (part,) = decision.batch.slices
        found.append((decision.runner, part.request.id, part.start, part.stop))
    return found


def known(plan: Scheduler) -> Scheduler:
    """A row takes 1 ms, and nothing is learned."""
    plan.admission.cost.observe(1, 0.001)
    plan.admission.cost.a_s, plan.admission.cost.b_s = 0.001, 0.0
    return plan


def test_it_runs_at_once_on_every_runner_that_idles():
    plan = known(scheduler(knee=4, runners=2))
    assert background(plan.submit_background(job(rows=9), 0.0)) == [(1, "job", 0, 3), (0, "job", 3, 6)]
    assert background(plan.runner_idle(1, 0.003)) == [(1, "job", 6, 9)]
    assert plan.runner_idle(0, 0.003) == []
    assert plan.idle_runners == 1


def test_live_rows_go_first_and_do_not_wait_for_a_share_that_has_been_had():
    plan = known(scheduler(knee=4))
    plan.submit_background(job(rows=8), 0.0)
    assert plan.submit(request("live"), 0.001) == []
    assert names(plan.runner_idle(0, 0.004)) == "live"
    assert background(plan.runner_idle(0, 0.005)) == [(0, "job", 4, 8)]


def test_a_share_that_is_due_goes_before_live_rows_and_shares_no_batch_with_them():
    plan = known(scheduler(knee=4))
    plan.submit(request("running", 4), 0.0)
    plan.submit(request("second", 2), 0.0)
    plan.submit_background(job(rows=2), 0.0)
    assert names(plan.runner_idle(0, 1.0)) == "second"  # the credit begins to count here
    plan.submit(request("third", 2), 1.0)
    assert background(plan.runner_idle(0, 1.1)) == [(0, "job", 0, 2)]
    assert names(plan.runner_idle(0, 1.102)) == "third"


def test_background_rows_are_no_live_figures():
    plan = known(scheduler(knee=4, rows_max=10, bytes_max=100))
    plan.submit(request("running"), 0.0)
    assert plan.submit_background(job(rows=400), 0.0) == []
    assert (plan.waiting_rows, plan.waiting_bytes, plan.live_requests) == (0, 0, 1)
    assert plan.waiting_since_s is None
    assert plan.next_deadline() == 1000.0
    assert (plan.background.rows, plan.background.requests) == (400, 1)


def test_waiting_for_ever_lifts_it_no_further_than_its_share():
    plan = known(scheduler(knee=1, rows_max=1000, patience_s=0.1))
    for n in range(500):
        plan.submit(request(f"r{n}"), 0.0)
    plan.submit_background(job(rows=400), 0.0)
    started = [plan.runner_idle(0, 100.0 + n * 0.001)[0] for n in range(400)]
    assert sum(isinstance(decision, RunBackground) for decision in started) in range(15, 21)  # 5 %
    assert all(isinstance(decision, Run | RunBackground) for decision in started)


def test_a_third_request_is_refused():
    plan = known(scheduler(knee=4))
    plan.submit(request("running"), 0.0)
    plan.submit_background(job("a"), 0.0)
    plan.submit_background(job("b"), 0.0)
    (refusal,) = plan.submit_background(job("c"), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.error.reason == "queue_full"


def test_a_job_that_withdraws_runs_no_further_and_frees_its_place():
    plan = known(scheduler(knee=4))
    gone = job("gone", 9)
    plan.submit_background(gone, 0.0)
    assert plan.cancel(gone)
    assert not plan.cancel(gone)
    assert plan.runner_idle(0, 0.003) == []


def test_a_lost_runner_names_its_background_batch():
    plan = known(scheduler(knee=4))
    plan.submit_background(job("a", 2), 0.0)
    (part,) = plan.runner_lost(0, 1.0)
    assert part.request.id == "a"
    assert plan.runners == 0


def test_a_runner_is_kept_for_work_of_the_servers_own_that_asked_in_vain():
    plan = known(scheduler(knee=4))
    plan.submit_background(job(rows=400), 0.0)
    assert plan.borrow_idle() is None
    assert plan.runner_idle(0, 0.004) == []
    assert plan.borrow_idle() == 0
    assert background(plan.runner_idle(0, 0.01)) == [(0, "job", 4, 8)]


def test_a_runner_that_is_to_end_takes_no_background_rows():
    plan = known(scheduler(knee=4, runners=2))
    plan.submit_background(job(rows=400), 0.0)
    plan.retire(1)
    ended = plan.runner_idle(0, 0.004)
    assert len(ended) == 1
    assert not isinstance(ended[0], RunBackground)
    assert len(background(plan.runner_idle(1, 0.004))) == 1
