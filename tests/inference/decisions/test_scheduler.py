"""The scheduler tells what runs next: each test is a short story of events and the decisions they lead to."""

from __future__ import annotations

import pytest

from inference.decisions.scheduler import OVERDUE_EVERY, Expire, QueuePolicy, Refuse, Run, Scheduler
from inference.errors import DeadlinePassed, QueueFull, TooLarge
from inference.request import LIVE_PRIORITIES, Request
from tests.inference.decisions.schedulers import names, ran, scheduler
from tests.inference.requests import request

CRITICAL, HIGH, NORMAL, LOW = LIVE_PRIORITIES


def test_a_lone_request_runs_at_once():
    assert ran(scheduler().submit(request("a"), 0.0)) == [(0, [("a", 0, 1)])]


def test_the_next_batch_is_what_queued_meanwhile():
    plan = scheduler()
    plan.submit(request("a"), 0.0)
    for name in "bcdef":
        assert plan.submit(request(name), 0.0) == []
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("b", 0, 1), ("c", 0, 1), ("d", 0, 1), ("e", 0, 1)])]
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("f", 0, 1)])]
    assert plan.runner_idle(0, 0.0) == []
    assert plan.live_requests == 0


def test_every_idle_runner_gets_work():
    plan = scheduler(knee=1, runners=2)
    assert ran(plan.submit(request("a"), 0.0)) == [(1, [("a", 0, 1)])]
    assert ran(plan.submit(request("b"), 0.0)) == [(0, [("b", 0, 1)])]
    assert plan.submit(request("c"), 0.0) == []


def test_unlike_requests_never_share_a_batch_and_of_equal_deadlines_the_older_group_goes_first():
    plan = scheduler()
    plan.submit(request("a"), 0.0)
    for name, group in (("b", "wide"), ("c", "narrow"), ("d", "wide")):
        plan.submit(request(name, group=group), 0.0)
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("b", 0, 1), ("d", 0, 1)])]
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("c", 0, 1)])]


def test_a_model_that_does_not_batch_runs_each_request_alone():
    plan = scheduler(knee=None)
    plan.submit(request("a"), 0.0)
    plan.submit(request("b"), 0.0)
    plan.submit(request("c"), 0.0)
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("b", 0, 1)])]


def test_a_request_above_the_knee_is_cut_and_lets_others_in_between():
    plan = scheduler(knee=4)
    assert ran(plan.submit(request("big", rows=10), 0.0)) == [(0, [("big", 0, 4)])]
    plan.submit(request("a"), 0.0)
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("big", 4, 8)])]
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("a", 0, 1), ("big", 8, 10)])]
    plan.runner_idle(0, 0.0)
    assert plan.live_requests == 0


def test_a_request_that_fits_a_batch_is_never_cut():
    plan = scheduler(knee=4)
    plan.submit(request("a"), 0.0)
    plan.submit(request("b", rows=3), 0.0)
    plan.submit(request("c", rows=3), 0.0)
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("b", 0, 3)])]
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("c", 0, 3)])]


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
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("next", 0, 1)])]


def test_who_hangs_up_half_way_through_a_cut_request_runs_no_further():
    plan = scheduler(knee=4)
    big = request("big", rows=10)
    plan.submit(big, 0.0)
    assert plan.cancel(big)
    assert plan.runner_idle(0, 0.0) == []
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
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("c", 0, 1)])]
    assert plan.next_deadline() == 9


def test_a_request_that_comes_after_its_deadline_is_refused():
    (refusal,) = scheduler().submit(request("late", timeout_s=1), 1.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, DeadlinePassed)


def test_deadlines_of_ended_requests_do_not_pile_up():
    plan = scheduler()
    for _ in range(5000):
        plan.submit(request(), 0.0)
        plan.runner_idle(0, 0.0)
    assert len(plan._deadlines) < 200
    assert plan.next_deadline() is None


def test_a_runner_is_lent_only_while_nobody_waits():
    plan = scheduler()
    assert plan.borrow_idle() == 0
    assert plan.submit(request("a"), 0.0) == []
    assert plan.borrow_idle() is None
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("a", 0, 1)])]


def test_a_lost_runner_names_the_slices_it_took_along():
    plan = scheduler()
    here, gone = request("here", rows=2), request("gone")
    plan.submit(request("first"), 0.0)
    plan.submit(here, 0.0)
    plan.submit(gone, 0.0)
    plan.runner_idle(0, 0.0)
    plan.cancel(gone)
    assert [(part.request, part.start, part.stop) for part in plan.runner_lost(0, 0.0)] == [(here, 0, 2)]
    assert plan.runners == 0


def test_a_runner_cannot_fall_idle_twice():
    with pytest.raises(AssertionError, match="twice"):
        scheduler().runner_idle(0, 0.0)


def test_new_limits_hold_for_the_next_batch():
    plan = scheduler(knee=2)
    plan.submit(request("a"), 0.0)
    for name in "bcd":
        plan.submit(request(name), 0.0)
    plan.change_policy(QueuePolicy("adder/1", 8))
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("b", 0, 1), ("c", 0, 1), ("d", 0, 1)])]


# ---- order -----------------------------------------------------------------------------------------------------------


def test_bands_run_strictly_in_order():
    plan = scheduler(knee=1)
    plan.submit(request("runs"), 0.0)
    for priority in (LOW, NORMAL, CRITICAL, HIGH):
        plan.submit(request(priority.name, priority=priority, timeout_s=priority), 0.0)
    order = [names(plan.runner_idle(0, 0.0)) for _ in LIVE_PRIORITIES]
    assert order == ["CRITICAL", "HIGH", "NORMAL", "LOW"]


def test_inside_a_band_the_earliest_deadline_runs_first():
    plan = scheduler(knee=1)
    plan.submit(request("runs"), 0.0)
    for name, timeout_s in (("c", 9), ("a", 2), ("b", 5)):
        plan.submit(request(name, timeout_s=timeout_s), 0.0)
    assert [names(plan.runner_idle(0, 0.0)) for _ in "abc"] == ["a", "b", "c"]


def test_a_batch_is_filled_over_the_bands_with_the_group_of_the_first():
    plan = scheduler(knee=4)
    plan.submit(request("runs"), 0.0)
    plan.submit(request("low", priority=LOW), 0.0)
    plan.submit(request("wide", priority=HIGH, group="wide"), 0.0)
    plan.submit(request("late", priority=NORMAL, timeout_s=9), 0.0)
    plan.submit(request("soon", priority=NORMAL, timeout_s=5), 0.0)
    plan.submit(request("critical", priority=CRITICAL), 0.0)
    assert names(plan.runner_idle(0, 0.0)) == "critical soon late low"
    assert names(plan.runner_idle(0, 0.0)) == "wide"


def test_who_does_not_fit_is_not_overtaken_by_a_lower_band():
    plan = scheduler(knee=4)
    plan.submit(request("runs"), 0.0)
    plan.submit(request("high", 2, priority=HIGH), 0.0)
    plan.submit(request("normal", 3), 0.0)
    plan.submit(request("low", 1, priority=LOW), 0.0)
    assert names(plan.runner_idle(0, 0.0)) == "high"
    assert names(plan.runner_idle(0, 0.0)) == "normal low"


def test_the_rest_of_a_cut_request_waits_behind_later_deadlines_that_came_before_the_cut():
    plan = scheduler(knee=4)
    plan.submit(request("runs"), 0.0)
    plan.submit(request("big", rows=6, timeout_s=1), 0.0)
    for name in "abcd":
        plan.submit(request(name, timeout_s=9), 0.0)
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("big", 0, 4)])]
    plan.submit(request("urgent", timeout_s=2), 0.0)
    assert names(plan.runner_idle(0, 0.0)) == "urgent a b c"
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("d", 0, 1), ("big", 4, 6)])]


def test_the_rest_of_a_cut_request_that_fits_the_next_batch_is_not_cut_again():
    plan = scheduler(knee=4)
    plan.submit(request("big", rows=6, timeout_s=9), 0.0)
    plan.submit(request("a", rows=3, timeout_s=5), 0.0)
    assert names(plan.runner_idle(0, 0.0)) == "a"
    assert ran(plan.runner_idle(0, 0.0)) == [(0, [("big", 4, 6)])]


def test_a_cut_request_lives_until_its_last_slice_is_back_whichever_that_is():
    plan = scheduler(knee=4, runners=2)
    big = request("big", rows=6)
    assert [d.runner for d in plan.submit(big, 1.0) if isinstance(d, Run)] == [1, 0]
    plan.runner_idle(0, 2.0)  # the last rows are back before the first
    assert plan.live_requests == 1
    plan.runner_idle(1, 3.0)
    assert plan.live_requests == 0
    assert not plan.cancel(big)


def test_the_wait_of_a_cut_request_begins_anew_with_each_slice():
    plan = scheduler(knee=4)
    plan.submit(request("runs"), 0.0)
    plan.submit(request("big", rows=9), 1.0)
    assert plan.waiting_since_s == 1.0
    plan.runner_idle(0, 2.0)
    assert plan.waiting_since_s == 2.0
    plan.runner_idle(0, 3.0)
    plan.runner_idle(0, 4.0)
    assert plan.waiting_since_s is None


# ---- aging -----------------------------------------------------------------------------------------------------------


def crowded(plan: Scheduler, low: int) -> list[Request]:
    """A critical request runs, more than enough of them wait, and behind them `low` of the lowest band."""
    plan.submit(request("critical", priority=CRITICAL), 0.0)
    lows = [request(f"low{n}", priority=LOW) for n in range(low)]
    for made in lows:
        plan.submit(made, 0.0)
    for _ in range(20):
        plan.submit(request("critical", priority=CRITICAL), 0.5)
    return lows


def test_one_batch_in_four_goes_to_who_has_waited_longest():
    plan = scheduler(knee=1)
    crowded(plan, low=2)
    started = [names(plan.runner_idle(0, 1.0)) for _ in range(2 * OVERDUE_EVERY)]
    assert started == ["critical", "critical", "low0", "critical", "critical", "critical", "low1", "critical"]


def test_nobody_is_overdue_before_patience_ends():
    plan = scheduler(knee=1)
    crowded(plan, low=2)
    assert {names(plan.runner_idle(0, 0.99)) for _ in range(2 * OVERDUE_EVERY)} == {"critical"}


def test_an_overdue_request_brings_its_group_and_the_batch_fills_by_band():
    plan = scheduler(knee=3, patience_s=1.0)
    crowded(plan, low=3)
    for _ in range(OVERDUE_EVERY - 2):
        plan.runner_idle(0, 0.5)
    assert names(plan.runner_idle(0, 1.0)) == "low0 critical critical"


def test_the_rest_of_an_overdue_request_waits_anew():
    plan = scheduler(knee=1, patience_s=1.0)
    plan.submit(request("critical", priority=CRITICAL), 0.0)
    plan.submit(request("big", 9, priority=LOW), 0.0)
    plan.submit(request("low", priority=LOW), 0.1)
    for _ in range(20):
        plan.submit(request("critical", priority=CRITICAL), 0.5)
    started = [names(plan.runner_idle(0, 1.2)) for _ in range(12)]
    assert [name for name in started if name != "critical"] == ["big", "low"]  # `big` was served at 1.2
    assert plan.waiting_since_s == 0.5
