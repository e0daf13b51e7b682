"""Whole lives of a queue in virtual time, from a seed: bursts, hang-ups, deadlines, large requests, new limits.

After every event the invariants are checked. A failure names the seed; `live(seed)` replays it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from random import Random

import pytest

from inference.decisions.scheduler import Decision, Expire, QueuePolicy, Refuse, Run, Scheduler
from inference.request import Batch, Request
from tests.inference.requests import request

LIVES = 300
LIVES_SLOW = 2000


class Life:
    """One simulated server: a scheduler, its runners and callers, and what each caller was told."""

    def __init__(self, seed: int, scheduler_class: type[Scheduler] = Scheduler) -> None:
        self.random = random = Random(seed)
        self.now = 0.0
        self.policy = self._policy()
        self.scheduler = scheduler_class(self.policy)
        self.runners = random.randint(1, 3)
        self.batches: dict[int, Batch] = {}
        self.rows_run: dict[Request, list[range]] = defaultdict(list)
        self.accepted: dict[Request, None] = {}
        self.ended: dict[Request, str] = {}
        self.order: dict[Request, int] = {}
        self.events: list[tuple[float, int, str, object]] = []
        self.count = itertools.count()
        self.obey([d for runner in range(self.runners) for d in self.scheduler.runner_idle(runner)])

    def _policy(self) -> QueuePolicy:
        random = self.random
        knee = random.choice([None, 1, 4, 8])
        return QueuePolicy("m/1", random.choice([4, 30, 200]), random.choice([100, 4000]), knee)

    def at(self, delay: float, what: str, subject: object = None) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.count), what, subject))

    def run(self, arrivals: int) -> None:
        when = 0.0
        for _ in range(arrivals):
            when += 0.0 if self.random.random() < 0.3 else self.random.expovariate(20.0)
            self.at(when, "arrive")
        for _ in range(3):
            self.at(self.random.uniform(0, when), "limits")
        while self.events:
            self.now, _, what, subject = heapq.heappop(self.events)
            getattr(self, what)(subject)
            self.check()
        assert not self.accepted.keys() - self.ended.keys(), "an accepted request was never answered"
        assert (self.scheduler.waiting_rows, self.scheduler.waiting_bytes) == (0, 0)
        assert self.scheduler.live_requests == 0

    # ---- events ------------------------------------------------------------------------------------------------------

    def arrive(self, _: object) -> None:
        random = self.random
        rows = random.choice([1, 1, 1, 2, 7, 40])
        made = request(
            f"r{len(self.order)}",
            rows,
            group=random.choice("aab"),
            now=self.now,
            timeout_s=random.choice([0.05, 0.5, 100.0]),
        )
        self.order[made] = len(self.order)
        decisions = self.scheduler.submit(made, self.now)
        if not any(isinstance(d, Refuse) for d in decisions):
            self.accepted[made] = None
            if random.random() < 0.15:
                self.at(random.expovariate(10.0), "hang_up", made)
            self.at(made.deadline_s - self.now, "tick")
        self.obey(decisions)

    def hang_up(self, gone: object) -> None:
        assert isinstance(gone, Request)
        if self.scheduler.cancel(gone):
            self.end(gone, "cancelled")

    def tick(self, _: object) -> None:
        self.obey(self.scheduler.tick(self.now))

    def finish(self, runner: object) -> None:
        assert isinstance(runner, int)
        batch = self.batches.pop(runner)
        for part in batch.slices:
            self.rows_run[part.request].append(range(part.start, part.stop))
            if part.request not in self.ended and sum(map(len, self.rows_run[part.request])) == part.request.rows:
                self.end(part.request, "answered")
        self.obey(self.scheduler.runner_idle(runner))

    def limits(self, _: object) -> None:
        self.policy = self._policy()
        self.scheduler.change_policy(self.policy)

    # ---- obeying and checking ----------------------------------------------------------------------------------------

    def end(self, ended: Request, how: str) -> None:
        assert ended not in self.ended, f"{ended.id} ended twice: {self.ended.get(ended)}, {how}"
        self.ended[ended] = how

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                self.start(decision.runner, decision.batch)
            elif isinstance(decision, Refuse):
                assert decision.request not in self.accepted
            elif isinstance(decision, Expire):
                assert decision.request.deadline_s <= self.now, "expired before its deadline"
                self.end(decision.request, "expired")

    def start(self, runner: int, batch: Batch) -> None:
        assert runner not in self.batches, "a batch for a runner that is busy"
        assert batch.slices, "an empty batch"
        assert len({part.request.group for part in batch.slices}) == 1, "unlike requests in one batch"
        knee = self.policy.batch_rows_max
        if knee is None:
            assert len(batch.slices) == 1, "company for a request that runs alone"
        else:
            assert batch.rows <= knee, "a batch above the knee"
        for part in batch.slices:
            assert part.request not in self.ended, "work for somebody who left"
        uncut = [self.order[part.request] for part in batch.slices if part.rows == part.request.rows]
        assert uncut == sorted(uncut), "out of the order of arrival"
        self.batches[runner] = batch
        self.at(self.random.expovariate(15.0), "finish", runner)

    def check(self) -> None:
        plan = self.scheduler
        waiting = 0
        for made in self.accepted.keys() - self.ended.keys():
            running = sum(p.rows for b in self.batches.values() for p in b.slices if p.request is made)
            waiting += made.rows - running - sum(map(len, self.rows_run[made]))
        assert plan.waiting_rows == waiting, "rows leaked or lost"
        assert plan.live_requests == len(self.accepted) - len(self.ended.keys() & self.accepted.keys())
        assert plan.idle_runners == self.runners - len(self.batches)
        assert not (plan.idle_runners and plan.waiting_rows), "a runner idles while somebody waits"
        for made, parts in self.rows_run.items():
            rows = [row for part in parts for row in part]
            assert len(set(rows)) == len(rows), "rows ran twice"
            if self.ended.get(made) == "answered":
                assert sorted(rows) == list(range(made.rows)), "answered without all of its rows"


def live(seed: int, scheduler_class: type[Scheduler] = Scheduler, arrivals: int = 60) -> Life:
    """One life; an AssertionError names the seed that replays it."""
    try:
        life = Life(seed, scheduler_class)
        life.run(arrivals)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return life


def test_nothing_is_lost_doubled_or_mixed_in_hundreds_of_lives():
    ends = {how for seed in range(LIVES) for how in live(seed).ended.values()}
    assert ends == {"answered", "cancelled", "expired"}


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_mixed_in_thousands_of_lives():
    for seed in range(LIVES, LIVES + LIVES_SLOW):
        live(seed, arrivals=150)


class LeaksOnCancel(Scheduler):
    """A planted bug: a cancelled request keeps its place."""

    def _leave_queue(self, entry):
        rows = entry.waiting_rows
        super()._leave_queue(entry)
        self.waiting_rows += min(rows, 1)


class OneTooLarge(Scheduler):
    """A planted bug: batches hold one row more than the knee."""

    def change_policy(self, policy):
        super().change_policy(policy)
        if policy.batch_rows_max:
            wrong = QueuePolicy(policy.model, policy.rows_max, policy.bytes_max, policy.batch_rows_max + 1)
            super().change_policy(wrong)


class LastComeFirstServed(Scheduler):
    """A planted bug: the newest request goes first."""

    def _enqueue(self, entry):
        super()._enqueue(entry)
        self._groups[entry.request.group].move_to_end(entry.request, last=False)


class ForgetsExpired(Scheduler):
    """A planted bug: an expired request is dropped and its caller never told."""

    def tick(self, now):
        return super().tick(now)[1:]


@pytest.mark.parametrize("bug", [LeaksOnCancel, OneTooLarge, LastComeFirstServed, ForgetsExpired])
def test_planted_bugs_are_caught(bug):
    def lives() -> None:
        for seed in range(LIVES):
            live(seed, bug)

    with pytest.raises(AssertionError, match="seed"):
        lives()
