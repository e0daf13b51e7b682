"""One whole life of a scheduler in virtual time, from a seed: a server, its runners and its callers.

After every event everything is held against the oracle and against what each caller was told. To replay a seed and
see its events: python -m tests.inference.simulation.life SEED [ARRIVALS]
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.scheduler import Decision, Expire, QueuePolicy, Refuse, Retire, Run, Scheduler
from inference.errors import InferenceError
from inference.request import LIVE_PRIORITIES, Batch, Request
from tests.inference.bounds_only import BoundsOnly
from tests.inference.requests import request
from tests.inference.simulation.oracle import Oracle

ARRIVALS = 80
RUNNERS_MAX = 4


@dataclass(eq=False)
class Worker:
    """A runner: how slow it is, and what it does."""

    number: int
    slowness: float
    batch: Batch | None = None
    lent: bool = False
    alive: bool = True


class Life:
    """One server with its callers. `run` lives it; an AssertionError says which promise was broken."""

    def __init__(self, seed: int, scheduler_class: type[Scheduler] = Scheduler, *, log: bool = False) -> None:
        self.random = random = Random(seed)
        self.log = log
        self.now = 0.0
        self.bounds = AdmissionPolicy("m/1", rows_max=200, bytes_max=4000)
        self.admission = random.choice([Admission, BoundsOnly, BoundsOnly])(self.bounds)
        self.scheduler = scheduler_class(self._policy(), self.admission)
        self.oracle = Oracle(self.scheduler.policy)
        self.set_limits()
        self.workers: dict[int, Worker] = {}
        self.retiring = 0  # workers that still have something to finish first
        self.accepted: dict[Request, None] = {}
        self.told: dict[Request, str] = {}  # what each accepted caller was told
        self.rows_back: dict[Request, set[int]] = defaultdict(set)
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.count = itertools.count()
        self.numbers = itertools.count()  # of runners, never used again
        self.names = itertools.count()  # of requests
        self.seen: Counter[str] = Counter()  # that the lives hold everything that they are meant to hold
        for _ in range(random.randint(1, 3)):
            self.hire()

    # ---- time --------------------------------------------------------------------------------------------------------

    def at(self, delay_s: float, what: Callable[..., None], *subject: object) -> None:
        heapq.heappush(self.events, (self.now + delay_s, next(self.count), what, subject))

    def run(self, arrivals: int = ARRIVALS) -> Life:
        end_s = self.plan_arrivals(arrivals)
        for what in (self.change_limits, self.die, self.hire, self.retire, self.borrow):
            for _ in range(self.random.randint(0, 4)):
                self.at(self.random.uniform(0, end_s), what)
        while True:
            due_s = self.scheduler.next_deadline()  # the one timer of the shell
            if due_s is None and not self.events:
                break
            if due_s is not None and (not self.events or due_s <= self.events[0][0]):
                self.now, what, subject = due_s, self.tick, ()
            else:
                self.now, _, what, subject = heapq.heappop(self.events)
            if self.log:
                print(f"{self.now:9.4f} {what.__name__:14}", *map(_named, subject))
            what(*subject)
            self.check()
        self.check_end()
        return self

    def plan_arrivals(self, arrivals: int) -> float:
        """Poisson arrivals, or bursts of many at one moment; light or heavy load."""
        random = self.random
        rate, burst = random.choice([5.0, 20.0, 60.0]), random.choice([1, 1, 8, 30])
        when = 0.0
        for number in range(arrivals):
            when += random.expovariate(rate / burst) if number % burst == 0 else 0.0
            self.at(when, self.arrive)
        return when

    # ---- callers -----------------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        random = self.random
        made = request(
            f"r{next(self.names)}",
            random.choice([1, 1, 1, 2, 3, 7, 40]),
            group=random.choice("aab"),
            now=self.now,
            timeout_s=random.choice([0.05, 0.5, 0.5, 2.0, 2.0, 100.0]) * random.uniform(-0.05, 1.5),
            priority=random.choice(LIVE_PRIORITIES),
        )
        full = self.full(made)
        decisions = self.scheduler.submit(made, self.now)
        if self.log:
            print(
                " " * 11, f"{made.id}: {made.rows} rows, {made.priority.name}, due {made.deadline_s:.4f}, {made.group}"
            )
        if decisions and isinstance(decisions[0], Refuse):
            assert len(decisions) == 1, "a refusal and more"
            self.check_refusal(made, decisions[0].error, full)
            return
        assert not full, f"{made.id} was taken beyond the bounds"
        assert made.deadline_s > self.now, f"{made.id} was taken after its deadline"
        self.accepted[made] = None
        self.oracle.accept(made, self.now)
        if random.random() < 0.15:
            self.at(random.expovariate(5.0), self.hang_up, made)
        self.obey(decisions)

    def full(self, made: Request) -> bool:
        bounds, oracle = self.bounds, self.oracle
        return oracle.rows + made.rows > bounds.rows_max or oracle.bytes + made.byte_count > bounds.bytes_max

    def check_refusal(self, made: Request, error: InferenceError, full: bool) -> None:
        self.seen[error.reason] += 1
        if self.log:
            print(" " * 11, f"{made.id} is refused: {error}")
        if error.reason in ("queue_full", "too_large"):
            assert full, f"{made.id} was refused though it fits"
        elif error.reason == "deadline_passed":
            assert made.deadline_s <= self.now, f"{made.id} was refused before its deadline"
        else:
            assert error.reason == "deadline_unreachable", f"{made.id} was refused for {error.reason}"

    def hang_up(self, gone: Request) -> None:
        assert self.scheduler.cancel(gone) is (gone not in self.told), "a hang-up that did not count, or counted twice"
        if gone not in self.told:
            self.tell(gone, "cancelled")

    def tell(self, caller: Request, what: str) -> None:
        assert caller in self.accepted, f"{caller.id} was {what} without being accepted"
        assert caller not in self.told, f"{caller.id} was told twice: {self.told.get(caller)}, {what}"
        self.told[caller] = what
        self.seen[what] += 1
        self.oracle.leave(caller)

    def tick(self) -> None:
        self.obey(self.scheduler.tick(self.now))

    def open(self) -> list[Request]:
        return [made for made in self.accepted if made not in self.told]

    # ---- runners -----------------------------------------------------------------------------------------------------

    def hire(self) -> None:
        if len(self.workers) < RUNNERS_MAX:
            worker = Worker(next(self.numbers), self.random.choice([0.5, 1.0, 1.0, 3.0]))
            self.workers[worker.number] = worker
            self.obey(self.scheduler.runner_idle(worker.number, self.now))

    def retire(self) -> None:
        if len(self.workers) - self.retiring > 1:
            self.retiring += 1
            self.obey(self.scheduler.retire(1))

    def end(self, number: int) -> None:
        worker = self.workers.pop(number)
        assert worker.batch is None, "a runner was ended in the middle of its batch"
        assert not worker.lent, "a runner was ended while it was lent"
        self.retiring -= 1
        self.seen["retired"] += 1

    def die(self) -> None:
        if self.workers:
            self.lose(self.random.choice(list(self.workers.values())))
            self.at(self.random.expovariate(5.0), self.hire)

    def lose(self, worker: Worker) -> None:
        del self.workers[worker.number]
        worker.alive = False
        self.retiring = min(self.retiring, len(self.workers))
        lost = self.scheduler.runner_lost(worker.number, self.now)
        ran = worker.batch.slices if worker.batch else ()
        assert lost == [part for part in ran if part.request not in self.told], "a lost batch was not named"
        self.seen["lost batches"] += bool(lost)
        for part in lost:
            self.fail(part.request)

    def fail(self, made: Request) -> None:
        assert self.scheduler.cancel(made), f"{made.id} was not known any more"
        self.tell(made, "failed")

    def borrow(self) -> None:
        number = self.scheduler.borrow_idle()
        if number is None:
            assert self.oracle.waiting or not self.scheduler.idle_runners, "an idle runner was not lent"
            return
        assert not self.oracle.waiting, "a runner was lent while somebody waits"
        assert self.workers[number].batch is None, "a busy runner was lent"
        self.workers[number].lent = True
        self.seen["lent"] += 1
        self.at(self.random.expovariate(10.0), self.give_back, self.workers[number])

    def give_back(self, worker: Worker) -> None:
        if worker.alive:
            worker.lent = False
            self.obey(self.scheduler.runner_idle(worker.number, self.now))

    def finish(self, worker: Worker) -> None:
        if not worker.alive:
            return
        assert worker.batch is not None
        batch, worker.batch = worker.batch, None
        for part in batch.slices:
            made, rows = part.request, set(range(part.start, part.stop))
            assert not rows & self.rows_back[made], f"rows of {made.id} ran twice"
            self.rows_back[made] |= rows
            if made in self.told:
                continue
            if self.random.random() < 0.02:
                self.fail(made)
            elif len(self.rows_back[made]) == made.rows:
                self.tell(made, "answered")
        self.obey(self.scheduler.runner_idle(worker.number, self.now, 0.01))

    # ---- limits ------------------------------------------------------------------------------------------------------

    def _policy(self) -> QueuePolicy:
        random = self.random
        return QueuePolicy("m/1", random.choice([None, 1, 4, 8, 8, 16]), random.choice([0.05, 0.3, 1.0]))

    def set_limits(self) -> None:
        random = self.random
        self.bounds = AdmissionPolicy("m/1", random.choice([4, 30, 200, 200]), random.choice([100, 4000, 4000]))
        self.admission.policy = self.bounds

    def change_limits(self) -> None:
        self.oracle.policy = self._policy()
        self.scheduler.change_policy(self.oracle.policy)
        self.set_limits()

    # ---- obeying and checking ----------------------------------------------------------------------------------------

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if self.log:
                print(" " * 11, _told(decision))
            if isinstance(decision, Run):
                self.start(decision.runner, decision.batch)
            elif isinstance(decision, Retire):
                self.end(decision.runner)
            else:
                assert isinstance(decision, Expire), f"{decision} does not follow from this event"
                assert decision.request.deadline_s <= self.now, "expired before its deadline"
                self.tell(decision.request, "expired")

    def start(self, number: int, batch: Batch) -> None:
        worker = self.workers[number]
        assert worker.batch is None, "a batch for a runner that is busy"
        assert not worker.lent, "a batch for a runner that is lent"
        assert len({part.request.group for part in batch.slices}) == 1, "unlike requests in one batch"
        assert not any(part.request in self.told for part in batch.slices), "work for somebody who left"
        assert self.oracle.waiting, "a batch though nobody waits"
        knee = self.oracle.policy.batch_rows_max
        assert (len(batch.slices) == 1) if knee is None else (batch.rows <= knee), "a batch above the knee"
        given = [(part.request, part.start, part.stop) for part in batch.slices]
        expected = self.oracle.batch(self.now)
        assert given == expected, f"out of order: {_in_words(given)} instead of {_in_words(expected)}"
        self.oracle.note_start(self.now)
        self.seen["company"] += len(batch.slices) > 1
        self.seen["cut"] += any(part.rows < part.request.rows for part in batch.slices)
        self.seen["overdue"] += any(one.request.priority < given[0][0].priority for one in self.oracle.waiting)
        worker.batch = batch
        stall = 20.0 if self.random.random() < 0.03 else 1.0
        self.at(self.random.expovariate(15.0) * worker.slowness * stall, self.finish, worker)

    def check(self) -> None:
        plan, oracle, workers = self.scheduler, self.oracle, self.workers.values()
        assert (plan.waiting_rows, plan.waiting_bytes) == (oracle.rows, oracle.bytes), "rows or bytes leaked or lost"
        assert (self.admission.waiting_rows, self.admission.waiting_bytes) == (oracle.rows, oracle.bytes)
        assert plan.live_requests == len(self.accepted) - len(self.told), "callers leaked or lost"
        assert plan.runners == len(self.workers) - self.retiring, "runners leaked or lost"
        assert plan.idle_runners == sum(one.batch is None and not one.lent for one in workers), (
            "idle runners miscounted"
        )
        assert not (plan.idle_runners and oracle.waiting), "a runner idles while somebody waits"
        assert not (plan.idle_runners and self.retiring), "a runner idles that was to end"
        since_s = min((one.since_s for one in oracle.waiting), default=None)
        assert plan.waiting_since_s == since_s, "the longest wait is not known"
        running = {part.request for one in workers if one.batch for part in one.batch.slices}
        waiting = {one.request for one in oracle.waiting}
        for made in self.open():
            assert made in running or made in waiting, f"{made.id} was accepted and is nowhere"
            assert made.deadline_s > self.now, f"{made.id} waits beyond its deadline"

    def check_end(self) -> None:
        assert not self.open(), "an accepted request was never answered"
        assert (self.scheduler.waiting_rows, self.scheduler.waiting_bytes, self.scheduler.live_requests) == (0, 0, 0)
        for made, what in self.told.items():
            whole = len(self.rows_back[made]) == made.rows
            assert whole or what != "answered", f"{made.id} was answered without all of its rows"


def _named(subject: object) -> object:
    return {Request: lambda made: made.id, Worker: lambda worker: f"runner {worker.number}"}[type(subject)](subject)


def _told(decision: Decision) -> str:
    if isinstance(decision, Run):
        parts = [(part.request, part.start, part.stop) for part in decision.batch.slices]
        return f"runner {decision.runner} runs {_in_words(parts)}"
    return f"{decision.request.id}: {decision.error}" if isinstance(decision, Expire) else str(decision)


def _in_words(parts: list[tuple[Request, int, int]]) -> str:
    return " + ".join(f"{made.id}[{start}:{stop}]" for made, start, stop in parts)


def live(seed: int, scheduler_class: type[Scheduler] = Scheduler, arrivals: int = ARRIVALS) -> Life:
    """One life; a failure names the seed that replays it, and how."""
    life = Life(seed, scheduler_class)
    try:
        return life.run(arrivals)
    except Exception as error:
        replay = f"python -m tests.inference.simulation.life {seed} {arrivals}"
        raise AssertionError(f"seed {seed} at {life.now:.4f} s: {error!r}; replay with: {replay}") from error


if __name__ == "__main__":
    Life(int(sys.argv[1]), log=True).run(int(sys.argv[2]) if len(sys.argv) > 2 else ARRIVALS)
