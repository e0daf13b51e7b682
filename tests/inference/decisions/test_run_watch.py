"""When a run counts as hung, and what is done about it, as stories in virtual time."""

from __future__ import annotations

from random import Random

import pytest

from inference.decisions.run_watch import Abandon, EndProcess, RunWatch, Terminate, WatchPolicy
from inference.model import ModelKey

A, B = ModelKey("a", 1), ModelKey("b", 2)


@pytest.fixture
def watch() -> RunWatch:
    return RunWatch()


def stuck(watch: RunWatch, runner: int, now: float) -> list[object]:
    """What the watch decides about a run that never ends, step by step."""
    watch.start(A, runner, 0.001, now)
    return [*watch.tick(now + 1.0), *watch.tick(now + 1.5)]


@pytest.mark.parametrize(
    ("predicted_s", "limit_s"),
    [(0.0, 1.0), (0.001, 1.0), (0.1, 1.0), (0.2, 2.0), (3.0, 30.0), (None, 30.0)],
)
def test_a_run_may_take_ten_times_its_prediction_and_a_second_at_least(
    watch: RunWatch, predicted_s: float | None, limit_s: float
) -> None:
    assert watch.start(A, 0, predicted_s, 100.0) == 100.0 + limit_s
    assert watch.next_deadline() == 100.0 + limit_s
    assert watch.tick(100.0 + limit_s - 0.001) == []
    assert watch.hung(A) is None
    assert watch.tick(100.0 + limit_s) == [Terminate(A, 0, limit_s)]
    assert watch.hung(A) == limit_s


def test_a_run_that_ends_in_time_is_forgotten(watch: RunWatch) -> None:
    watch.start(A, 0, 0.01, 0.0)
    watch.end(A, 0)
    assert watch.next_deadline() is None
    assert watch.tick(100.0) == []


def test_a_run_that_was_stopped_leaves_its_version_suspect_until_one_ends_well(watch: RunWatch) -> None:
    watch.start(A, 0, 0.01, 0.0)
    watch.start(B, 0, 0.01, 0.9)
    assert watch.tick(1.0) == [Terminate(A, 0, 1.0)]
    watch.end(A, 0)
    assert watch.tick(1.5) == []
    assert (watch.hung(A), watch.hung(B)) == (1.0, None)
    watch.end(B, 0)
    assert watch.hung(A) == 1.0
    watch.start(A, 0, 0.01, 2.0)
    watch.end(A, 0)
    assert watch.hung(A) is None


def test_a_run_that_does_not_stop_is_abandoned_after_the_grace(watch: RunWatch) -> None:
    watch.start(A, 0, 0.01, 0.0)
    assert watch.tick(1.02) == [Terminate(A, 0, 1.0)]
    assert watch.next_deadline() == 1.52
    assert watch.tick(1.51) == []
    assert watch.tick(1.52) == [Abandon(A, 0, 1.0)]
    assert watch.abandoned == 1
    assert watch.next_deadline() is None
    assert watch.hung(A) == 1.0


def test_the_third_thread_that_is_lost_ends_the_process(watch: RunWatch) -> None:
    assert stuck(watch, 0, 0.0) == [Terminate(A, 0, 1.0), Abandon(A, 0, 1.0)]
    assert stuck(watch, 1, 10.0) == [Terminate(A, 1, 1.0), Abandon(A, 1, 1.0)]
    assert stuck(watch, 2, 20.0) == [Terminate(A, 2, 1.0), EndProcess(A, 2, 1.0)]


def test_three_that_are_lost_at_once_are_counted_one_by_one(watch: RunWatch) -> None:
    for runner in range(3):
        watch.start(A, runner, None, 0.0)
    assert len(watch.tick(30.0)) == 3
    assert watch.tick(30.5) == [Abandon(A, 0, 30.0), Abandon(A, 1, 30.0), EndProcess(A, 2, 30.0)]


def test_a_thread_that_comes_back_counts_no_more_and_says_nothing_good_of_its_version(watch: RunWatch) -> None:
    stuck(watch, 0, 0.0)
    stuck(watch, 1, 10.0)
    watch.end(A, 0)
    assert watch.abandoned == 1
    assert watch.hung(A) == 1.0
    assert stuck(watch, 2, 20.0)[-1] == Abandon(A, 2, 1.0)


def test_another_call_of_the_same_batch_gets_time_of_its_own(watch: RunWatch) -> None:
    watch.start(A, 0, 0.2, 0.0)
    watch.start(A, 0, 0.2, 1.9)
    assert watch.tick(2.0) == []
    assert watch.tick(3.9) == [Terminate(A, 0, 2.0)]


def test_what_is_being_stopped_gets_no_more_time(watch: RunWatch) -> None:
    watch.start(A, 0, 0.01, 0.0)
    watch.tick(1.0)
    watch.start(A, 0, 0.01, 1.2)
    assert watch.tick(1.5) == [Abandon(A, 0, 1.0)]


def test_a_process_that_stood_still_gives_its_runs_one_more_second(watch: RunWatch) -> None:
    watch.start(A, 0, 0.01, 0.0)
    assert watch.tick(3600.0) == []
    assert watch.next_deadline() == 3601.0
    assert watch.tick(7200.0) == [Terminate(A, 0, 1.0)]


def test_a_version_that_is_closed_is_forgotten_and_its_lost_threads_are_not(watch: RunWatch) -> None:
    stuck(watch, 0, 0.0)
    watch.start(A, 1, 0.01, 2.0)
    watch.start(B, 0, 0.01, 2.0)
    watch.forget(A)
    assert watch.hung(A) is None
    assert watch.abandoned == 1
    assert watch.tick(3.0) == [Terminate(B, 0, 1.0)]


@pytest.mark.parametrize("seed", range(50))
def test_every_run_that_is_over_its_limit_is_acted_upon_within_the_grace(seed: int) -> None:
    """Whole lives: runs of random length, some stopped by the flag and some by nothing."""
    random, policy = Random(seed), WatchPolicy(abandoned_max=1_000)
    watch, now = RunWatch(policy), 0.0
    ends: dict[int, float] = {}  # when each run ends of itself
    limits: dict[int, float] = {}
    terminated: dict[int, float] = {}
    lost: set[int] = set()
    for runner in range(200):
        predicted_s = random.choice([0.001, 0.05, 0.3, None])
        limits[runner] = watch.start(A, runner, predicted_s, now)
        ends[runner] = now + random.choice([0.5, 0.99, 1.01, 5.0, 1e9]) * (limits[runner] - now)
        step_s = now + random.random()
        while True:
            event_s = min([step_s, watch.next_deadline() or step_s, *ends.values()])
            now = max(now, event_s)
            for ended in [each for each, end_s in ends.items() if end_s <= now]:
                assert ended in terminated or now <= limits[ended] + 1e-9
                del ends[ended]
                watch.end(A, ended)
            for decision in watch.tick(now):
                if isinstance(decision, Terminate):
                    assert now == pytest.approx(limits[decision.runner])
                    terminated[decision.runner] = now
                    if random.random() < 0.5:  # it obeys the flag
                        ends[decision.runner] = now + random.random() * policy.grace_s * 0.9
                else:
                    assert isinstance(decision, Abandon)
                    assert now == pytest.approx(terminated[decision.runner] + policy.grace_s)
                    assert ends[decision.runner] > now
                    lost.add(decision.runner)
            if now >= step_s:
                break
    assert watch.abandoned == len(lost & ends.keys())
    assert terminated
