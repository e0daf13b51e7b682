"""The bound that the scheduler states for every wait holds in the worst crowd, and only because of aging."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from random import Random

import pytest

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.band import Entry
from inference.decisions.scheduler import OVERDUE_EVERY, Decision, QueuePolicy, Run, Scheduler
from inference.request import Priority, Request
from tests.inference.bounds_only import BoundsOnly
from tests.inference.requests import request

RUN_S = 0.05  # the longest batch
PATIENCE_S = 1.0


class NeverOverdue(Scheduler):
    """Strict bands, without aging."""

    def _first(self, now: float) -> Entry:
        self._batches_in_order = 0
        return super()._first(now)


class Crowd:
    """Callers of the upper bands who never let the queue run empty, and some of the lowest band behind them."""

    def __init__(self, seed: int, plan: type[Scheduler], *, runners: int, knee: int | None) -> None:
        self.random = Random(seed)
        self.plan = plan(QueuePolicy("m/1", knee, PATIENCE_S), BoundsOnly(AdmissionPolicy("m/1", 10_000, 1_000_000)))
        self.ids = itertools.count()
        self.busy: list[tuple[float, int]] = []  # (until, runner)
        self.started_s: dict[Request, list[float]] = {}
        for runner in range(runners):
            self.obey(self.plan.runner_idle(runner, 0.0), 0.0)

    def come(self, priority: Priority, rows: int, now: float) -> Request:
        group = self.random.choice("aab")
        made = request(f"r{next(self.ids)}", rows, group=group, now=now, timeout_s=1e6, priority=priority)
        self.started_s[made] = [now]
        self.obey(self.plan.submit(made, now), now)
        return made

    def obey(self, decisions: list[Decision], now: float) -> None:
        for decision in decisions:
            assert isinstance(decision, Run)
            for part in decision.batch.slices:
                self.started_s[part.request].append(now)
            self.busy.append((now + self.random.uniform(0.5, 1.0) * RUN_S, decision.runner))

    def live(self, seconds: float) -> Iterator[float]:
        """Time passes, batch by batch; the upper bands always have more than the runners can take."""
        now = 0.0
        while now < seconds:
            yield now
            while self.plan.waiting_rows < 100:
                self.come(self.random.choice([Priority.CRITICAL, Priority.HIGH]), self.random.choice([1, 2, 9]), now)
            now, runner = ended = min(self.busy)
            self.busy.remove(ended)
            self.obey(self.plan.runner_idle(runner, now, RUN_S), now)


def longest_wait_s(older: int, runners: int) -> float:
    """The bound that the scheduler states."""
    return PATIENCE_S + math.ceil(OVERDUE_EVERY * (older + 1) / runners) * RUN_S


def worst_low(crowd: Crowd, low: int) -> list[tuple[float, int]]:
    """(wait, how many had waited longer) of requests of the lowest band that came while the crowd was there."""
    older: dict[Request, int] = {}
    for now in crowd.live(40.0):
        if len(older) < low and now > 0.5:
            older_now = len(crowd.plan._waiting)
            older[crowd.come(Priority.LOW, 1, now)] = older_now
    waits = []
    for made, before in older.items():
        came, *started = crowd.started_s[made]
        waits.append(((started[0] if started else math.inf) - came, before))
    return waits


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("runners", "knee"), [(1, None), (1, 4), (3, 8)])
def test_the_longest_wait_of_the_lowest_band_is_bounded_as_stated(seed: int, runners: int, knee: int | None) -> None:
    waits = worst_low(Crowd(seed, Scheduler, runners=runners, knee=knee), low=30)
    assert len(waits) == 30
    for wait_s, older in waits:
        bound_s = longest_wait_s(older, runners)
        assert wait_s <= bound_s, f"seed {seed}: waited {wait_s:.3f} s, the bound is {bound_s:.3f} s with {older} older"


def test_without_aging_the_bound_is_broken() -> None:
    waits = worst_low(Crowd(0, NeverOverdue, runners=1, knee=4), low=30)
    assert any(wait_s > longest_wait_s(older, runners=1) for wait_s, older in waits)
