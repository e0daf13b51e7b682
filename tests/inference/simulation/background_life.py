"""Whole lives of a scheduler that has rows of jobs beside its live callers.

All that holds of `Life` holds here, with jobs present: so the live bands are served by the same oracle. On top of it:
what runs of the background, when, in which cuts, and how much of it before live rows that wait. To replay a seed and
see its events: python -m tests.inference.simulation.background_life SEED [ARRIVALS]
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from inference.decisions.admission import Admission
from inference.decisions.background_band import REQUESTS_MAX
from inference.decisions.background_share import BackgroundPolicy
from inference.decisions.scheduler import Decision, QueuePolicy, Refuse, RunBackground, Scheduler
from inference.request import LIVE_PRIORITIES, Batch, Priority, Request
from tests.inference.requests import request
from tests.inference.simulation.life import ARRIVALS, RUNNERS_MAX, Life, Worker

JOBS_MAX = 60


@dataclass(eq=False)
class First:
    """A background batch that was started while live rows waited."""

    at_s: float
    predicted_s: float
    took_s: float = math.inf

    @property
    def counted_s(self) -> float:
        return min(self.predicted_s, self.took_s)


class BackgroundLife(Life):
    """A server with callers and a job's worker, who hands in batches of rows and more when one comes back."""

    def __init__(self, seed: int, scheduler_class: type[Scheduler] = Scheduler, *, log: bool = False) -> None:
        self.queue: list[list[int | Request]] = []  # [request, rows of it that have started], in the order of coming
        self.ended: dict[Request, str] = {}
        self.jobs = 0
        self.back: dict[Request, set[int]] = {}  # rows that came back, of every accepted background request
        self.firsts: list[First] = []
        self.running: dict[int, tuple[float, First | None]] = {}  # runner -> since when
        self.loan_refused = False
        self.policies: list[QueuePolicy] = []
        self.costs_s = [0.0]  # of a first batch, and of a full one, as predicted at some time
        super().__init__(seed, scheduler_class, log=log)
        if not isinstance(self.admission, Admission) or self.random.random() < 0.7:
            row_s = self.random.choice([0.0005, 0.002, 0.01])
            self.admission.cost.seed({1: 0.001 + row_s, 16: 0.001 + 16 * row_s})

    def _policy(self) -> QueuePolicy:
        plain, random = super()._policy(), self.random
        background = BackgroundPolicy(random.choice([0.002, 0.005, 0.05]), random.choice([0.0, 0.05, 0.3]))
        self.policies.append(QueuePolicy(plain.model, plain.batch_rows_max, plain.patience_s, background))
        return self.policies[-1]

    # ---- the job -----------------------------------------------------------------------------------------------------

    def plan_arrivals(self, arrivals: int) -> float:
        end_s = super().plan_arrivals(arrivals)
        for _ in range(self.random.choice([1, 10, 30])):
            self.at(self.random.uniform(0, end_s), self.hand_in)
        return end_s

    def hand_in(self) -> None:
        random = self.random
        if self.jobs >= JOBS_MAX:
            return
        self.jobs += 1
        made = request(f"b{self.jobs}", random.choice([1, 5, 16, 40]), now=self.now, priority=Priority.BACKGROUND)
        made.deadline_s = math.inf
        open_before = len(self.back) - len(self.ended)
        decisions = self.scheduler.submit_background(made, self.now)
        if decisions and isinstance(decisions[0], Refuse):
            assert open_before == REQUESTS_MAX, f"{made.id} was refused though there is room"
            self.seen["background refused"] += 1
            return
        assert open_before < REQUESTS_MAX, f"{made.id} was taken beyond the bound"
        self.queue.append([made, 0])
        self.back[made] = set()
        if random.random() < 0.1:
            self.at(random.expovariate(5.0), self.withdraw, made)
        self.obey(decisions)

    def withdraw(self, made: Request) -> None:
        assert self.scheduler.cancel(made) is (made not in self.ended), "a withdrawal that did not count, or twice"
        if made not in self.ended:
            self.end_background(made, "withdrawn")

    def end_background(self, made: Request, what: str) -> None:
        assert made not in self.ended, f"{made.id} ended twice"
        self.ended[made] = what
        self.seen[f"background {what}"] += 1
        self.queue = [item for item in self.queue if item[0] is not made]
        self.at(0.0 if self.random.random() < 0.7 else self.random.expovariate(2.0), self.hand_in)

    # ---- runners -----------------------------------------------------------------------------------------------------

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, RunBackground):
                self.start_background(decision.runner, decision.batch)
            else:
                super().obey([decision])
        if self.loan_refused:  # as the engine does
            self.loan_refused = False
            self.borrow()

    def start(self, number: int, batch: Batch) -> None:
        assert all(part.request.priority in LIVE_PRIORITIES for part in batch.slices), "background in a live batch"
        super().start(number, batch)

    def start_background(self, number: int, batch: Batch) -> None:
        worker = self.workers[number]
        assert worker.batch is None, "a background batch for a runner that is busy"
        assert not worker.lent, "a background batch for a runner that is lent"
        assert self.queue, "a background batch though none waits"
        made, start = self.queue[0]
        rows = self.rows_expected(made.rows - start)
        given = [(part.request, part.start, part.stop) for part in batch.slices]
        assert given == [(made, start, start + rows)], (
            f"another background batch than {made.id}[{start}:{start + rows}]"
        )
        if start + rows == made.rows:
            self.queue.pop(0)
        else:
            self.queue[0][1] = start + rows
            self.seen["background cut"] += 1
        first = None
        predicted_s = self.admission.cost.predict(rows)
        if self.oracle.waiting:
            assert self.oracle.policy.background.share_min, "background before live rows, without any share"
            first = First(self.now, predicted_s)
            self.firsts.append(first)
            self.costs_s += [predicted_s, self.admission.cost.predict(self.oracle.policy.batch_rows_max or 1)]
            self.seen["background first"] += 1
            self.check_share()
        self.running[number] = (self.now, first)
        worker.batch = batch
        slow = 10.0 if self.random.random() < 0.03 else self.random.uniform(0.5, 1.5)
        self.at(max(predicted_s, 0.001) * slow, self.finish_background, worker, batch)

    def rows_expected(self, waiting: int) -> int:
        """The batch that has to come, found by trying every size."""
        policy, cost = self.oracle.policy, self.admission.cost
        if policy.batch_rows_max is None:
            return waiting
        sizes = range(1, min(policy.batch_rows_max, waiting) + 1)
        most = max([n for n in sizes if cost.known and cost.predict(n) <= policy.background.batch_s_max], default=1)
        return math.ceil(waiting / math.ceil(waiting / most))

    def check_share(self) -> None:
        """What went before live rows is within the share and one credit, in every stretch that ends now."""
        share = max(policy.background.share_min for policy in self.policies)
        longest_s = max(self.costs_s)
        sum_s = 0.0
        for first in reversed(self.firsts):
            sum_s += first.counted_s
            allowed_s = share * RUNNERS_MAX * (self.now - first.at_s) + longest_s + share * RUNNERS_MAX * longest_s
            assert sum_s <= allowed_s * (1 + 1e-9), f"{sum_s:.4f} s of background before live rows"

    def finish_background(self, worker: Worker, batch: Batch) -> None:
        if not worker.alive:
            return
        assert worker.batch is batch
        worker.batch = None
        self.account(worker)
        (part,) = batch.slices
        made, rows = part.request, set(range(part.start, part.stop))
        assert not rows & self.back[made], f"rows of {made.id} ran twice"
        self.back[made] |= rows
        if made not in self.ended and len(self.back[made]) == made.rows:
            self.end_background(made, "answered")
        self.obey(self.scheduler.runner_idle(worker.number, self.now))

    def account(self, worker: Worker) -> None:
        since_s, first = self.running.pop(worker.number)
        if first is not None:
            first.took_s = self.now - since_s

    def lose(self, worker: Worker) -> None:
        if worker.number not in self.running:
            super().lose(worker)
            return
        del self.workers[worker.number]
        worker.alive = False
        self.retiring = min(self.retiring, len(self.workers))
        assert worker.batch is not None
        lost = self.scheduler.runner_lost(worker.number, self.now)
        assert lost == [part for part in worker.batch.slices if part.request not in self.ended], "a lost batch unnamed"
        self.account(worker)
        for part in lost:
            assert self.scheduler.cancel(part.request), "a lost request was not known any more"
            self.end_background(part.request, "lost")

    def borrow(self) -> None:
        lent = self.seen["lent"]
        super().borrow()
        self.loan_refused = self.seen["lent"] == lent

    # ---- checking ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        super().check()
        band = self.scheduler.background
        assert band.requests == len(self.back) - len(self.ended), "background requests leaked or lost"
        assert band.rows == sum(made.rows - start for made, start in self.queue), "background rows leaked or lost"
        kept = 1 if self.loan_refused else 0
        assert not (self.queue and self.scheduler.idle_runners > kept), "a runner idles while background rows wait"

    def check_end(self) -> None:
        super().check_end()
        assert len(self.ended) == len(self.back), "a background request was never answered"
        assert self.scheduler.background.rows == 0


def live(seed: int, scheduler_class: type[Scheduler] = Scheduler, arrivals: int = ARRIVALS) -> BackgroundLife:
    """One life; a failure names the seed that replays it, and how."""
    life = BackgroundLife(seed, scheduler_class)
    try:
        life.run(arrivals)
    except AssertionError as error:
        command = f"python -m tests.inference.simulation.background_life {seed} {arrivals}"
        raise AssertionError(f"seed {seed} at {life.now:.4f}: {error}; replay with: {command}") from error
    return life


if __name__ == "__main__":
    BackgroundLife(int(sys.argv[1]), log=True).run(int(sys.argv[2]) if len(sys.argv) > 2 else ARRIVALS)
