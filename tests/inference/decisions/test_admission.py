"""What is taken and what is refused, and why: bounds, deadlines, who is put off by whom."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.decisions.admission import RETRY_AFTER_MAX_S, RETRY_AFTER_S, Admission, AdmissionPolicy
from inference.decisions.scheduler import QueuePolicy, Refuse, Run, Scheduler
from inference.errors import DeadlineUnreachable, InferenceError
from inference.request import LIVE_PRIORITIES, Priority, Request
from tests.inference.requests import request

BOUNDS = AdmissionPolicy("adder/1", rows_max=4096, bytes_max=1 << 20)
RUN_S = 0.01
LOW, NORMAL, CRITICAL = Priority.LOW, Priority.NORMAL, Priority.CRITICAL


def steady(knee: int | None = 1, runners: int = 1, policy: AdmissionPolicy = BOUNDS) -> Admission:
    """A model that has always taken RUN_S a batch, whose promises were always kept."""
    admission = Admission(policy)
    admission.batches_changed(knee, 1.0)
    admission.runners_changed(runners)
    for _ in range(2000):
        admission.batch_started(0, knee or 1, 0.0)
        admission.batch_finished(0, knee or 1, RUN_S, RUN_S)
    admission.margin.batches = 0.0
    admission.margin.set_batch(0.0)
    return admission


def take(admission: Admission, now: float = 0.0, **asked: float | Priority) -> Request:
    """A request that has to be taken."""
    made = request(now=now, **asked)  # pyrefly: ignore[bad-argument-type] - a test's shorthand
    refusal = admission.judge(made, now)
    assert refusal is None, refusal
    admission.accepted(made)
    return made


def refusal_of(admission: Admission, now: float = 0.0, **asked: float | Priority) -> InferenceError:
    refusal = admission.judge(request(now=now, **asked), now)  # pyrefly: ignore[bad-argument-type] - a test's shorthand
    assert refusal is not None
    return refusal


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_what_waits_is_bounded_by_rows_and_given_back():
    admission = Admission(AdmissionPolicy("adder/1", rows_max=4, bytes_max=1000))
    first = take(admission, rows=3)
    refusal = refusal_of(admission, rows=2)
    assert (refusal.reason, refusal.retry_after_s) == ("queue_full", RETRY_AFTER_S)
    admission.left_queue(first, 3, last=True)
    take(admission, rows=2)
    assert (admission.waiting_rows, admission.waiting_bytes) == (2, 8)


def test_bytes_are_given_back_with_the_last_row():
    admission = Admission(AdmissionPolicy("adder/1", rows_max=100, bytes_max=100))
    first = take(admission, rows=10, byte_count=80)
    admission.left_queue(first, 9, last=False)
    assert refusal_of(admission, byte_count=30).reason == "queue_full"
    admission.left_queue(first, 1, last=True)
    take(admission, byte_count=30)


@pytest.mark.parametrize("asked", [{"rows": 5}, {"byte_count": 1001}])
def test_what_could_never_wait_is_too_large(asked):
    admission = Admission(AdmissionPolicy("adder/1", rows_max=4, bytes_max=1000))
    assert refusal_of(admission, **asked).reason == "too_large"


def test_the_predicted_wait_is_bounded():
    admission = steady(policy=AdmissionPolicy("adder/1", 4096, 1 << 20, ms_max=1000))
    admission.batch_started(0, 1, 0.0)
    for _ in range(95):
        take(admission)  # 10.5 ms each, behind the one that runs
    refusal = refusal_of(admission)
    assert refusal.reason == "queue_full"
    assert "ms wait, the limit is 1000" in str(refusal)


def test_a_full_queue_says_when_there_will_be_room():
    admission = steady(policy=AdmissionPolicy("adder/1", rows_max=50, bytes_max=1 << 20))
    admission.batch_started(0, 1, 0.0)
    take(admission, rows=50)
    refusal = refusal_of(admission, rows=20)
    assert refusal.retry_after_s == pytest.approx(20 * RUN_S * 1.05, abs=0.001)


def test_a_deadline_that_is_over_is_told_so():
    admission = steady()
    assert refusal_of(admission, timeout_s=0.0).reason == "deadline_passed"
    assert admission.judge_time(NORMAL, 1, -1.0, 0.0) is not None


# ---- in time ---------------------------------------------------------------------------------------------------------


def test_while_nothing_is_known_every_deadline_is_worth_a_try():
    admission = Admission(BOUNDS)
    for _ in range(100):
        take(admission, timeout_s=1e-6)
    assert admission.judge_time(NORMAL, 1, 1e-6, 0.0) is None


def test_what_takes_longer_than_there_is_time_is_refused_on_an_idle_server():
    admission = steady()
    refusal = refusal_of(admission, timeout_s=0.009)
    assert isinstance(refusal, DeadlineUnreachable)
    assert "within the 9 ms that are left: it would take about 10 ms" in str(refusal)
    take(admission, timeout_s=0.011)


def test_a_request_above_the_knee_takes_several_runs():
    admission = steady(knee=4, runners=2)
    assert refusal_of(admission, rows=40, timeout_s=0.049).reason == "deadline_unreachable"
    take(admission, rows=40, timeout_s=0.051)


def test_the_running_batch_counts_by_what_is_left_of_it():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    assert refusal_of(admission, 0.001, timeout_s=0.018).reason == "deadline_unreachable"
    take(admission, 0.007, timeout_s=0.018)


def test_a_run_that_does_not_end_makes_the_wait_longer_and_longer():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    assert admission.judge(request(now=0.02, timeout_s=0.1), 0.02) is None
    assert refusal_of(admission, 1.0, timeout_s=0.1).reason == "deadline_unreachable"


def test_a_lost_batch_is_waited_for_no_more():
    admission = steady(runners=2)
    admission.batch_started(0, 1, 0.0)
    admission.batch_started(1, 1, 0.0)
    assert refusal_of(admission, 5.0, timeout_s=0.1).reason == "deadline_unreachable"
    admission.batch_lost(0, 1, 5.0)
    admission.runners_changed(1)
    admission.batch_finished(1, 1, RUN_S, 5.0)
    take(admission, 5.0, timeout_s=0.1)


def test_an_earlier_deadline_overtakes_and_is_taken_where_a_later_one_is_not():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    for _ in range(40):
        take(admission, timeout_s=0.6)
    take(admission, timeout_s=0.03)
    for _ in range(15):
        take(admission, timeout_s=0.3)
    refusal = refusal_of(admission, timeout_s=0.15)
    assert refusal.reason == "deadline_unreachable"
    assert refusal.retry_after_s == pytest.approx(0.01 + 56 * 0.0105, abs=0.001), "when what is before it is done"


def test_nobody_is_made_late_who_was_taken_before_not_even_by_higher_bands():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    take(admission, timeout_s=0.025, priority=LOW)
    refusal = refusal_of(admission, timeout_s=0.05, priority=CRITICAL)
    assert "requests accepted before would be late" in str(refusal)
    assert refusal.retry_after_s == pytest.approx(0.021, abs=0.001), "when the low one has run"


def test_higher_bands_go_first_where_the_lower_ones_have_time():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    for _ in range(20):
        take(admission, timeout_s=5.0, priority=NORMAL)
    take(admission, timeout_s=0.025, priority=CRITICAL)
    assert refusal_of(admission, timeout_s=0.1, priority=LOW).reason == "deadline_unreachable"


def test_more_runners_do_more():
    one, two = steady(), steady(runners=2)
    for admission in (one, two):
        for runner in range(2 if admission is two else 1):
            admission.batch_started(runner, 1, 0.0)
        for _ in range(10):
            take(admission, timeout_s=10.0, priority=CRITICAL)
    assert refusal_of(one, timeout_s=0.1).reason == "deadline_unreachable"
    take(two, timeout_s=0.1)


def test_a_batch_costs_as_much_for_many_rows_as_the_model_says():
    admission = Admission(BOUNDS)
    admission.batches_changed(8, 1.0)
    admission.seed({1: 0.01, 8: 0.01})  # the batch is free
    admission.margin.batches = 0.0
    admission.margin.set_batch(0.0)
    admission.runners_changed(1)
    admission.batch_started(0, 8, 0.0)
    for _ in range(16):
        take(admission, timeout_s=10.0, priority=CRITICAL)
    take(admission, timeout_s=0.05)


def test_batches_that_stay_small_since_groups_differ_are_learned():
    alike, unlike = steady(knee=8), steady(knee=8)
    for _ in range(50):
        for admission, rows in ((alike, 8), (unlike, 2)):
            waiting = take(admission, rows=20)
            admission.left_queue(waiting, 20, last=True)
            admission.waiting_rows += 10
            admission.batch_started(0, rows, 0.0)
            admission.waiting_rows -= 10
            admission.batch_finished(0, rows, RUN_S, RUN_S)
    for admission in (alike, unlike):
        admission.margin.batches = 0.0
        admission.margin.set_batch(0.0)
        admission.batch_started(0, 2, 0.0)
        for _ in range(16):
            take(admission, timeout_s=10.0, priority=CRITICAL)
    take(alike, timeout_s=0.06)
    assert refusal_of(unlike, timeout_s=0.06).reason == "deadline_unreachable"


def test_late_answers_make_it_careful_and_the_servers_own_time_counts():
    admission = steady()
    admission.batch_started(0, 1, 0.0)
    take(admission, timeout_s=0.1)
    made = request(timeout_s=0.024)
    assert admission.judge(made, 0.0) is None
    for _ in range(200):
        admission.observe_overhead(0.006)
        admission.answered(made, 0.01)
    assert admission.margin.overhead_s == pytest.approx(0.006, rel=0.05)
    assert admission.judge(made, 0.0) is not None


@pytest.mark.parametrize(("backlog", "told_s"), [(0, 0.01), (30, 0.325), (4000, RETRY_AFTER_MAX_S)])
def test_retry_after_is_when_the_backlog_is_done(backlog, told_s):
    admission = steady(policy=AdmissionPolicy("adder/1", 1 << 20, 1 << 30, ms_max=1 << 30))
    admission.batch_started(0, 1, 0.0)
    for _ in range(backlog):
        take(admission, timeout_s=1000.0, priority=CRITICAL)
    assert refusal_of(admission, timeout_s=0.015).retry_after_s == pytest.approx(told_s, rel=0.02)


def test_new_bounds_count_for_who_comes_next():
    admission = Admission(AdmissionPolicy("adder/1", rows_max=4, bytes_max=1000))
    first = take(admission, rows=4)
    admission.change_policy(AdmissionPolicy("adder/1", rows_max=2, bytes_max=1000))
    assert refusal_of(admission, rows=1).reason == "queue_full"
    admission.left_queue(first, 4, last=True)
    take(admission, rows=1)


# ---- whatever happens ------------------------------------------------------------------------------------------------


class Drawn:
    """A server whose history is drawn, seen through the real scheduler."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.now = 0.0
        self.admission = Admission(AdmissionPolicy("adder/1", rows_max=200, bytes_max=1 << 20))
        self.knee = random.choice([None, 1, 4])
        self.scheduler = Scheduler(QueuePolicy("adder/1", self.knee, patience_s=0.2), self.admission)
        self.running: dict[int, Run] = {}
        self.waiting: dict[Request, int] = {}  # rows
        for runner in range(random.randint(1, 2)):
            self.obey(self.scheduler.runner_idle(runner, 0.0))

    def ask(self, now: float) -> Request:
        random = self.random
        return request(
            rows=random.choice([1, 1, 1, 3]) if self.knee != 1 else 1,
            group=random.choice("aab"),
            now=now,
            timeout_s=random.choice([0.005, 0.05, 0.2, 1.0, 10.0]) * random.uniform(0.5, 1.5),
            priority=random.choice(LIVE_PRIORITIES),
        )

    def step(self) -> None:
        random = self.random
        self.now += random.choice([0.0, random.expovariate(300.0)])
        if self.running and random.random() < 0.4:
            runner = random.choice(list(self.running))
            del self.running[runner]
            self.obey(self.scheduler.runner_idle(runner, self.now))
        elif self.waiting and random.random() < 0.1:
            gone = random.choice(list(self.waiting))
            self.scheduler.cancel(gone)
            del self.waiting[gone]
        else:
            asked = self.ask(self.now)
            self.waiting[asked] = asked.rows
            self.obey(self.scheduler.submit(asked, self.now))

    def obey(self, decisions: list) -> None:
        for decision in decisions:
            if isinstance(decision, Refuse):
                del self.waiting[decision.request]
            elif isinstance(decision, Run):
                self.running[decision.runner] = decision
                for part in decision.batch.slices:
                    self.waiting[part.request] -= part.rows
                    if not self.waiting[part.request]:
                        del self.waiting[part.request]


@given(st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None)
def test_the_counters_are_exact(seed):
    drawn = Drawn(seed)
    for _ in range(80):
        drawn.step()
        rows = sum(drawn.waiting.values())
        assert drawn.admission.waiting_rows == rows
        assert drawn.admission.waiting_bytes == sum(item.byte_count for item in drawn.waiting)
        committed = drawn.admission._committed
        assert committed.rows == sum(committed.band_rows) == rows
        assert committed.earliest_s <= min((item.deadline_s for item in drawn.waiting), default=float("inf"))


@given(st.integers(0, 1 << 32), st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
@example(32732, 0.03125, 1.0)  # a wide margin of its own, which is none of those that are due before
@settings(max_examples=150, deadline=None)
def test_more_time_never_turns_a_yes_into_a_no(seed, timeout_s, more_s):
    drawn = Drawn(seed)
    for _ in range(40):
        drawn.step()
    for priority in LIVE_PRIORITIES:
        for rows in (1, 3):
            asked = {"rows": rows, "now": drawn.now, "priority": priority}
            hurried = drawn.admission.judge(request(timeout_s=timeout_s, **asked), drawn.now)
            patient = drawn.admission.judge(request(timeout_s=timeout_s + more_s, **asked), drawn.now)
            assert hurried is not None or patient is None, (drawn.now, priority, rows)


@given(st.integers(0, 1 << 32), st.sampled_from(LIVE_PRIORITIES))
@settings(max_examples=60, deadline=None)
def test_an_idle_server_refuses_nobody_whose_work_fits(seed, priority):
    drawn = Drawn(seed)
    for _ in range(60):
        drawn.step()
    while drawn.running:  # nobody comes any more
        runner = next(iter(drawn.running))
        del drawn.running[runner]
        drawn.now += 0.003
        drawn.obey(drawn.scheduler.runner_idle(runner, drawn.now))
    work_s = drawn.admission.cost.upper(1) + drawn.admission.margin.overhead_s
    asked = request(now=drawn.now, timeout_s=work_s * 1.0001, priority=priority)
    assert drawn.admission.judge(asked, drawn.now) is None
