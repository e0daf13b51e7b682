"""What a scheduler tells its admission, and which runners it gives up: short stories, as in test_scheduler."""

from __future__ import annotations

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.scheduler import QueuePolicy, Retire, Scheduler
from tests.inference.bounds_only import BoundsOnly
from tests.inference.decisions.schedulers import ran, scheduler
from tests.inference.requests import request

# ---- what the admission is told --------------------------------------------------------------------------------------


class Noted(BoundsOnly):
    """Takes notes of what it is told."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        super().__init__(policy)
        self.notes: list[tuple[object, ...]] = []

    def accepted(self, request):
        super().accepted(request)
        self.notes.append(("accepted", request.id))

    def left_queue(self, request, rows, *, last):
        super().left_queue(request, rows, last=last)
        self.notes.append(("left", request.id, rows, last))

    def batch_started(self, runner, rows, now):
        self.notes.append(("started", runner, rows, now))

    def batch_finished(self, runner, rows, run_s, now):
        self.notes.append(("finished", runner, rows, run_s, now))

    def batch_lost(self, runner, rows, now):
        self.notes.append(("lost", runner, rows, now))

    def runners_changed(self, runners):
        self.notes.append(("runners", runners))

    def batches_changed(self, rows_max, patience_s):
        self.policy_told = (rows_max, patience_s)


def noted(plan: Scheduler) -> list[tuple[object, ...]]:
    assert isinstance(plan.admission, Noted)
    notes, plan.admission.notes = plan.admission.notes, []
    return notes


def test_the_admission_is_told_of_every_row_and_batch():
    plan = scheduler(knee=4, admission=Noted)
    assert noted(plan) == [("runners", 1)]
    big = request("big", rows=6)
    plan.submit(big, 1.0)
    assert noted(plan) == [("accepted", "big"), ("left", "big", 4, False), ("started", 0, 4, 1.0)]
    plan.runner_idle(0, 2.0, 0.75)
    assert noted(plan) == [("finished", 0, 4, 0.75, 2.0), ("left", "big", 2, True), ("started", 0, 2, 2.0)]
    plan.runner_idle(0, 2.5)
    assert noted(plan) == [("finished", 0, 2, 0.5, 2.5)]


def test_the_admission_is_told_who_left_and_which_runner_is_lost():
    plan = scheduler(knee=4, admission=Noted)
    running, gone = request("running"), request("gone", rows=2)
    plan.submit(running, 1.0)
    plan.submit(gone, 1.0)
    noted(plan)
    plan.cancel(gone)
    plan.cancel(running)
    assert noted(plan) == [("left", "gone", 2, True)]
    plan.runner_lost(0, 3.0)
    plan.runner_lost(0, 3.0)
    assert noted(plan) == [("lost", 0, 1, 3.0), ("runners", 0)]


def test_work_of_the_servers_own_is_no_batch_to_the_admission():
    plan = scheduler(admission=Noted)
    noted(plan)
    assert plan.borrow_idle() == 0
    plan.runner_idle(0, 1.0, 5.0)
    assert noted(plan) == []


def test_the_admission_is_told_the_knee_and_the_patience():
    plan = scheduler(knee=4, patience_s=0.5, admission=Noted)
    assert isinstance(plan.admission, Noted)
    assert plan.admission.policy_told == (4, 0.5)
    plan.change_policy(QueuePolicy("adder/1", None, 2.0))
    assert plan.admission.policy_told == (None, 2.0)


# ---- fewer runners ---------------------------------------------------------------------------------------------------


def test_idle_runners_retire_at_once_the_longest_idle_first():
    plan = scheduler(runners=3, admission=Noted)
    noted(plan)
    assert plan.retire(2) == [Retire(0), Retire(1)]
    assert noted(plan) == [("runners", 1)]
    assert (plan.runners, plan.idle_runners) == (1, 1)


def test_a_runner_that_runs_retires_when_it_has_finished():
    plan = scheduler(knee=1, runners=2)
    plan.submit(request("a"), 0.0)
    plan.submit(request("b"), 0.0)
    plan.submit(request("c"), 0.0)
    assert plan.retire(1) == []
    assert plan.runners == 1
    assert plan.runner_idle(1, 1.0) == [Retire(1)]
    assert ran(plan.runner_idle(0, 1.0)) == [(0, [("c", 0, 1)])]
    assert plan.runners == 1


def test_no_more_runners_retire_than_there_are():
    plan = scheduler(runners=2)
    plan.submit(request("a"), 0.0)
    assert plan.retire(5) == [Retire(0)]
    plan.runner_lost(1, 0.0)
    assert plan.runners == 0
    assert plan.runner_idle(2, 0.0) == []
    assert plan.runners == 1


def test_a_request_that_is_refused_is_not_counted():
    plan = scheduler(rows_max=1, admission=Noted)
    noted(plan)
    plan.submit(request("huge", rows=2), 0.0)
    assert noted(plan) == []
    assert plan.live_requests == 0
