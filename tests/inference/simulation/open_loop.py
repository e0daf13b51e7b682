"""A server of virtual time that callers ask whether it keeps up or not: the real Scheduler and Admission, noisy runs.

Arrivals are drawn before the server is asked, so a refused caller changes nothing for the others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp
from random import Random

import numpy as np

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.scheduler import Decision, Expire, QueuePolicy, Refuse, Run, Scheduler
from inference.errors import InferenceError
from inference.model import ModelKey
from inference.request import LIVE_PRIORITIES, Batch, Request

KEY = ModelKey("simulated", 1)
INPUTS = {"x": np.zeros((1, 1), np.float32)}
NOISE = 0.10  # of the logarithm of a run's time
STALL_SHARE = 0.002  # of the runs take STALL times as long
STALL = 3.0


@dataclass(frozen=True)
class Model:
    """What a batch takes (seconds a row and a batch), the knee, and the runners that the server has for it."""

    a_s: float
    b_s: float
    knee: int | None
    runners: int = 1
    noise: float = NOISE
    stall_share: float = STALL_SHARE

    def run_s(self, rows: int) -> float:
        return self.a_s * rows + self.b_s

    @property
    def capacity(self) -> float:
        """Rows a second, with the noise and the stalls."""
        knee = self.knee or 1
        mean = exp(self.noise * self.noise / 2) * (1 + self.stall_share * (STALL - 1))
        return self.runners * knee / self.run_s(knee) / mean


@dataclass(frozen=True)
class Callers:
    """What they ask for. `allowed` is the range of their patience, in times of a run of one row."""

    rows: tuple[int, ...] = (1,)
    groups: str = "a"
    shares: tuple[float, float, float, float] = (0.05, 0.15, 0.60, 0.20)
    allowed: tuple[float, float] = (10, 50)
    allowed_min_s: float = 0.0
    leave_share: float = 0.0  # hang up before they are answered


IMAGES = Model(0.0033, 0.0, 1)  # a transformer on one core: batching gains nothing
IMAGES_TWICE = Model(0.0033, 0.0, None, runners=2)
SENSORS = Model(19e-6, 50e-6, 32)  # a small LSTM, where the batch pays
SENSORS_TWICE = Model(19e-6, 50e-6, 32, runners=2)
MIXED = Callers()
QUICK = Callers(allowed_min_s=0.02)  # 10 to 50 times a run of SENSORS would be less


@dataclass
class Told:
    """What came of the callers of one band."""

    asked: int = 0
    refused: int = 0
    in_time: int = 0
    rows_in_time: int = 0
    late: int = 0
    latencies_s: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.in_time + self.late

    def p99_s(self) -> float:
        return sorted(self.latencies_s)[int(0.99 * len(self.latencies_s))]


class OpenLoop:
    """One server and its callers, from a seed."""

    def __init__(self, seed: int, model: Model, callers: Callers = MIXED, *, warm: bool = True) -> None:
        self.random = Random(seed)
        self.model = model
        self.callers = callers
        self.now = 0.0
        self.finished_s = 0.0
        self.admission = Admission(AdmissionPolicy(str(KEY), 4096, 1 << 30))
        self.scheduler = Scheduler(QueuePolicy(str(KEY), model.knee), self.admission)
        self.told = {band: Told() for band in LIVE_PRIORITIES}
        self.live: dict[Request, None] = {}
        self.rows_left: dict[Request, int] = {}
        self.events: list[tuple[float, int, str, object]] = []
        self.count = itertools.count()
        for runner in range(model.runners):
            self.obey(self.scheduler.runner_idle(runner, 0.0))
        self.runner_next = model.runners
        self.left = 0
        self.refused_idle = 0  # although a runner idled, nobody waited, and there was half as much time again
        self.lost: set[int] = set()
        if warm:
            self.admission.seed({rows: model.run_s(rows) for rows in (1, min(8, model.knee or 1))})

    # ---- arrivals ----------------------------------------------------------------------------------------------------

    @property
    def requests_per_s(self) -> float:
        return self.model.capacity * len(self.callers.rows) / sum(self.callers.rows)

    def poisson(self, load: float, seconds: float) -> Iterator[float]:
        when, end = self.now, self.now + seconds
        while (when := when + self.random.expovariate(load * self.requests_per_s)) < end:
            yield when

    def bursts(self, load: float, seconds: float, every_s: float) -> Iterator[float]:
        """All that would come in `every_s` comes within a tenth of it."""
        began = self.now
        each = load * self.requests_per_s * every_s
        for burst in range(int(seconds / every_s)):
            start = began + burst * every_s
            yield from sorted(start + self.random.uniform(0, every_s / 10) for _ in range(round(each)))

    def request(self, when: float) -> Request:
        random, callers = self.random, self.callers
        band = random.choices(LIVE_PRIORITIES, callers.shares)[0]
        allowed_s = max(callers.allowed_min_s, random.uniform(*callers.allowed) * self.model.run_s(1))
        rows, group = random.choice(callers.rows), random.choice(callers.groups)
        made = Request("r", KEY, INPUTS, rows, 4 * rows, group, when + allowed_s, when, band)
        if random.random() < callers.leave_share:
            self.at(when + random.uniform(0, 0.2 * allowed_s), "hang_up", made)
        return made

    # ---- the server --------------------------------------------------------------------------------------------------

    def alone_s(self, rows: int) -> float:
        """What the runs of a request take that has the server for itself."""
        full, rest = divmod(rows, self.model.knee or rows)
        return full * self.model.run_s(self.model.knee or rows) + (self.model.run_s(rest) if rest else 0.0)

    def at(self, when: float, what: str, subject: object) -> None:
        heapq.heappush(self.events, (when, next(self.count), what, subject))

    def ask(self, request: Request) -> None:
        told = self.told[request.priority]
        told.asked += 1
        self.live[request] = None
        self.rows_left[request] = request.rows
        self.obey(self.scheduler.submit(request, self.now))

    def run(self, arrivals: Iterator[float]) -> None:
        """All of these come, and the server goes on until everybody has been told."""
        for when in arrivals:
            self.until(when)
            self.now = when
            self.ask(self.request(when))
        self.until(float("inf"))
        assert not self.live, "somebody was never told"

    def until(self, when: float) -> None:
        while self.events and self.events[0][0] <= when:
            self.now, _, what, subject = heapq.heappop(self.events)
            getattr(self, what)(subject)

    def finish(self, running: tuple[int, Batch, float]) -> None:
        runner, batch, run_s = running
        if runner in self.lost:
            return
        self.finished_s = self.now
        decisions = self.scheduler.runner_idle(runner, self.now, run_s)
        for part in batch.slices:
            self.rows_left[part.request] -= part.stop - part.start
            if not self.rows_left[part.request]:
                self.end(part.request, None)
        self.obey(decisions)

    def tick(self, _: object) -> None:
        self.obey(self.scheduler.tick(self.now))

    def hang_up(self, gone: Request) -> None:
        if self.scheduler.cancel(gone):
            del self.live[gone]
            self.left += 1

    def lose(self, runner: int) -> None:
        """A runner dies; its callers are told, and another comes."""
        self.lost.add(runner)
        for part in self.scheduler.runner_lost(runner, self.now):
            if self.scheduler.cancel(part.request):
                del self.live[part.request]
                self.left += 1
        self.obey(self.scheduler.runner_idle(self.runner_next, self.now))
        self.runner_next += 1

    def change(self, model: Model) -> None:
        """The model takes longer from now on, or less."""
        self.model = model

    def end(self, request: Request, error: InferenceError | None, *, refused: bool = False) -> None:
        if request not in self.live:
            return
        del self.live[request]
        told = self.told[request.priority]
        if refused and error is not None:
            told.refused += 1
            idle = self.scheduler.idle_runners and not self.scheduler.waiting_rows
            self.refused_idle += bool(idle and request.deadline_s - self.now > 1.5 * self.alone_s(request.rows))
            told.retry_after_s.append(error.retry_after_s or 0.0)
            return
        self.admission.answered(request, self.now)
        if error is None and self.now <= request.deadline_s:
            told.in_time += 1
            told.rows_in_time += request.rows
            told.latencies_s.append(self.now - request.arrived_s)
        else:
            told.late += 1

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                run_s = self.model.run_s(decision.batch.rows) * self.random.lognormvariate(0.0, self.model.noise)
                if self.random.random() < self.model.stall_share:
                    run_s *= STALL
                self.at(self.now + run_s, "finish", (decision.runner, decision.batch, run_s))
                for part in decision.batch.slices:
                    self.at(part.request.deadline_s, "tick", None)
            elif isinstance(decision, Refuse):
                self.end(decision.request, decision.error, refused=True)
            elif isinstance(decision, Expire):
                self.end(decision.request, decision.error)

    # ---- what came of it ---------------------------------------------------------------------------------------------

    @property
    def goodput(self) -> float:
        """Rows that were answered in time, as a share of what the runners could do in that time."""
        return sum(told.rows_in_time for told in self.told.values()) / (self.model.capacity * self.finished_s)

    @property
    def in_time(self) -> int:
        return sum(told.in_time for told in self.told.values())

    @property
    def late(self) -> int:
        return sum(told.late for told in self.told.values())

    @property
    def refused(self) -> int:
        return sum(told.refused for told in self.told.values())
