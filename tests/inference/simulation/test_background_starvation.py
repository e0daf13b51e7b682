"""Where live callers never pause, background rows get their minimum share of the runners, and no more than it."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.background_share import MEMORY_S, BackgroundPolicy
from inference.decisions.scheduler import Decision, QueuePolicy, Run, RunBackground, Scheduler
from inference.request import Priority, Request
from tests.inference.bounds_only import BoundsOnly
from tests.inference.requests import request

ROW_S, BATCH_S = 0.001, 0.002  # what a batch takes on average is BATCH_S + rows * ROW_S


class Crowd:
    """Callers who never let the queue run empty, once they have come, and a job that always has rows."""

    def __init__(self, seed: int, *, runners: int, knee: int | None, share: float) -> None:
        self.random = Random(seed)
        policy = QueuePolicy("m/1", knee, 1.0, BackgroundPolicy(0.005, share))
        admission = BoundsOnly(AdmissionPolicy("m/1", 10_000, 1_000_000))
        admission.cost.seed({rows: BATCH_S + rows * ROW_S for rows in (1, 64)})
        self.full_s = BATCH_S + (knee or 1) * ROW_S
        self.plan = Scheduler(policy, admission)
        self.ids = itertools.count()
        self.busy: list[tuple[float, int, float, Request | None]] = []  # until, runner, since, a background request
        self.open: dict[Request, int] = {}  # rows of background requests that are not back
        self.spans: list[tuple[float, float]] = []  # of background batches that have ended
        self.live_waits = False
        for runner in range(runners):
            self.obey(self.plan.runner_idle(runner, 0.0), 0.0)

    def obey(self, decisions: list[Decision], now: float) -> None:
        for decision in decisions:
            assert isinstance(decision, Run | RunBackground)
            rows = decision.batch.rows
            took_s = (BATCH_S + rows * ROW_S) * self.random.uniform(0.6, 1.4)
            job = decision.batch.slices[0].request if isinstance(decision, RunBackground) else None
            self.busy.append((now + took_s, decision.runner, now, job))

    def fill(self, now: float) -> None:
        while self.live_waits and self.plan.waiting_rows < 200:
            made = request(f"r{next(self.ids)}", self.random.choice([1, 2, 9]), now=now, timeout_s=1e6)
            self.obey(self.plan.submit(made, now), now)
        while len(self.open) < 2:
            made = request(f"b{next(self.ids)}", 64, now=now, timeout_s=math.inf, priority=Priority.BACKGROUND)
            self.open[made] = made.rows
            self.obey(self.plan.submit_background(made, now), now)

    def live(self, until_s: float, now: float = 0.0) -> None:
        self.fill(now)
        while (ended := min(self.busy))[0] < until_s:
            now, runner, since_s, job = ended
            self.busy.remove(ended)
            if job is not None:
                self.spans.append((since_s, now))
            self.obey(self.plan.runner_idle(runner, now), now)
            self.open = {made: 1 for made in self.open if made in self.plan.background._live}
            self.fill(now)

    def had_s(self, start_s: float, stop_s: float) -> float:
        return sum(stop - start for start, stop in self.spans if start_s <= start and stop <= stop_s)


CROWDS = [(1, None, 0.05), (1, 8, 0.05), (1, 64, 0.05), (3, 8, 0.05), (3, 64, 0.3), (2, 400, 0.2)]


@pytest.mark.parametrize(("runners", "knee", "share"), CROWDS)
@pytest.mark.parametrize("seed", range(2))
def test_the_minimum_share_is_kept_in_every_ten_seconds_and_not_exceeded(
    seed: int, runners: int, knee: int | None, share: float
) -> None:
    crowd = Crowd(seed, runners=runners, knee=knee, share=share)
    crowd.live_waits = True
    crowd.live(30.0)
    largest_s = 64 * ROW_S + BATCH_S if knee is None else 0.005
    credit_s = largest_s + share * runners * crowd.full_s
    for start_s in range(0, 20, 5):
        had_s, due_s = crowd.had_s(start_s, start_s + 10), share * runners * 10
        # Runs differ from what is predicted, and one that lies over a border counts in neither stretch.
        slack_s = 1.4 * (credit_s + 2 * largest_s)
        assert due_s - slack_s <= had_s <= due_s + slack_s, f"{had_s:.3f} s from {start_s} s on, {due_s:.3f} s are due"


def test_what_was_had_in_idle_times_is_forgiven_after_seconds() -> None:
    crowd = Crowd(0, runners=1, knee=8, share=0.05)
    crowd.live(30.0)
    assert crowd.had_s(0.0, 30.0) > 29.0
    crowd.live_waits = True
    crowd.live(60.0, now=30.0)
    first_s = min(start for start, _ in crowd.spans if start > 30.1)
    assert 30.0 + MEMORY_S * 0.9 <= first_s <= 30.0 + MEMORY_S + 1.0
    assert crowd.had_s(40.0, 60.0) == pytest.approx(0.05 * 20, rel=0.1)


def test_without_a_share_background_rows_wait_until_the_crowd_is_gone() -> None:
    crowd = Crowd(0, runners=1, knee=8, share=0.0)
    crowd.live_waits = True
    crowd.live(20.0)
    assert crowd.had_s(0.1, 20.0) == 0.0
