"""A machine in virtual time: cores, models with their run times, callers, real schedulers, and scaling on top.

A batch takes `overhead_s + rows * row_s`, with some noise, longer when more runners run than there are cores, and
longer again when a model's runners get into each other's way (`speed_of`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.load_totals import LoadTotals
from inference.decisions.runner_load import Load, RunnerBounds
from inference.decisions.scaling import Change, Grow, Scaling, ScalingPolicy
from inference.decisions.scheduler import Decision, QueuePolicy, Refuse, Retire, Run, Scheduler
from inference.model import ModelKey
from inference.request import Batch, Request

ONE_ROW = {"x": np.zeros((1, 1), np.float32)}
RUN_NOISE = 0.1  # of the logarithm of a run time


def in_parallel(runners: int) -> float:
    """The speed of so many runners, in runners: none disturbs another."""
    return float(runners)


def in_turns(runners: int) -> float:
    """The second runner brings nothing."""
    return min(1.0, float(runners))


@dataclass
class SimulatedModel:
    """A version: its run times, how its runners share the machine, and when rows come (rows/s at a time)."""

    name: str
    rate: Callable[[float], float]
    rate_max: float
    overhead_s: float = 0.016
    row_s: float = 0.016
    knee: int = 4
    rows_max: int = 4096
    timeout_s: float = 30.0
    speed_of: Callable[[int], float] = in_parallel
    bounds: RunnerBounds = field(default_factory=RunnerBounds)
    tells_row_s: bool = True

    @property
    def capacity(self) -> float:
        """Rows a second of one runner with full batches."""
        return self.knee / (self.overhead_s + self.knee * self.row_s)


class Lane:
    """One version being served, as a shell does: its scheduler, its totals and what runs."""

    def __init__(self, model: SimulatedModel) -> None:
        self.model = model
        self.key = ModelKey(model.name, 1)
        admission = Admission(AdmissionPolicy(str(self.key), model.rows_max, 1 << 30))
        self.scheduler = Scheduler(QueuePolicy(str(self.key), model.knee), admission)
        self.numbers = itertools.count()
        self.totals = LoadTotals(model.bounds)
        self.running: dict[int, Batch] = {}
        self.waits: list[tuple[float, float]] = []  # when a request was taken up, and how long it had waited

    def load(self, now: float) -> Load:
        """The reading that scaling gets."""
        plan = self.scheduler
        row_s = 1.0 / self.model.capacity if self.model.tells_row_s else 0.0
        return self.totals.load(plan.runners, plan.waiting_rows, plan.waiting_since_s, now, row_s)


class World:
    """Lives through virtual time; `changes` and each lane's `waits` tell what happened."""

    def __init__(
        self, seed: int, cores: int, models: list[SimulatedModel], policy: ScalingPolicy | None = None
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.cores = cores
        self.now = 0.0
        self.scaling = Scaling(policy or ScalingPolicy(cores))
        self.lanes = {ModelKey(model.name, 1): Lane(model) for model in models}
        self.changes: list[tuple[float, Change]] = []
        self.steps: list[tuple[float, dict[str, int]]] = []  # runners wanted after each evaluation
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = itertools.count()
        for lane in self.lanes.values():
            self._start_runners(lane, lane.model.bounds.runners_min)
            self._next_arrival(lane)
        self._at(0.0, self._evaluate)

    def run(self, until_s: float) -> World:
        """Go on to this time."""
        while self._events[0][0] <= until_s:
            self.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
        return self

    # ---- what a test asks --------------------------------------------------------------------------------------------

    def runners(self, name: str, at_s: float) -> int:
        """Runners wanted at that time."""
        return next(wanted[name] for seen_s, wanted in reversed(self.steps) if seen_s <= at_s)

    def changed(self, name: str, from_s: float = 0.0, to_s: float = float("inf")) -> list[Change]:
        """The changes of a version in that time."""
        return [c for when, c in self.changes if c.key.name == name and from_s <= when < to_s]

    def wait_s(self, name: str, from_s: float, to_s: float, quantile: float = 0.5) -> float:
        """A quantile of the waits of requests that were taken up in that time."""
        waits = sorted(w for when, w in self.lanes[ModelKey(name, 1)].waits if from_s <= when < to_s)
        return waits[int(quantile * (len(waits) - 1))] if waits else 0.0

    # ---- events ------------------------------------------------------------------------------------------------------

    def _at(self, delay_s: float, act: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._count), act, arguments))

    def _next_arrival(self, lane: Lane) -> None:
        self._at(self.random.expovariate(lane.model.rate_max), self._arrive, lane)

    def _arrive(self, lane: Lane) -> None:
        """Poisson arrivals of a changing rate, by thinning those of the highest one."""
        self._next_arrival(lane)
        model, now = lane.model, self.now
        if self.random.random() * model.rate_max < model.rate(now):
            asked = Request("r", lane.key, ONE_ROW, 1, 4, "same", now + model.timeout_s, now)
            decisions = lane.scheduler.submit(asked, now)
            if not any(isinstance(decision, Refuse) for decision in decisions):
                lane.totals.accepted(asked)
            self._obey(lane, decisions)

    def _evaluate(self) -> None:
        for lane in self.lanes.values():
            self._obey(lane, lane.scheduler.tick(self.now))
        changes = self.scaling.evaluate({key: lane.load(self.now) for key, lane in self.lanes.items()}, self.now)
        for change in changes:
            self.changes.append((self.now, change))
            lane = self.lanes[change.key]
            if isinstance(change, Grow):
                self._start_runners(lane, change.by)
            else:
                self._obey(lane, lane.scheduler.retire(change.by))
        self.steps.append((self.now, {key.name: self.scaling.wanted(key) for key in self.lanes}))
        self._check()
        self._at(self.scaling.next_deadline() - self.now, self._evaluate)

    def _finish(self, lane: Lane, number: int) -> None:
        lane.totals.batch_finished(number, lane.running.pop(number).rows, self.now)
        self._obey(lane, lane.scheduler.runner_idle(number, self.now))

    # ---- obeying and checking ----------------------------------------------------------------------------------------

    def _start_runners(self, lane: Lane, count: int) -> None:
        for _ in range(count):
            self._obey(lane, lane.scheduler.runner_idle(next(lane.numbers), self.now))

    def _obey(self, lane: Lane, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                self._run(lane, decision.runner, decision.batch)
            elif isinstance(decision, Refuse):
                lane.totals.refused(decision.request, decision.error)
            elif isinstance(decision, Retire):
                assert decision.runner not in lane.running, "a runner that runs was ended"

    def _run(self, lane: Lane, number: int, batch: Batch) -> None:
        lane.waits += [(self.now, self.now - part.request.arrived_s) for part in batch.slices]
        lane.totals.batch_started(number, batch, self.now)
        lane.running[number] = batch
        model, own = lane.model, len(lane.running)
        busy_cores = sum(len(other.running) * other.model.bounds.runner_cores for other in self.lanes.values())
        crowding = max(1.0, busy_cores / self.cores) * own / model.speed_of(own)
        run_s = (model.overhead_s + batch.rows * model.row_s) * self.random.lognormvariate(0.0, RUN_NOISE) * crowding
        self._at(run_s, self._finish, lane, number)

    def _check(self) -> None:
        """Bounds and budget, after every evaluation."""
        minima, where = 0, f"seed {self.seed}, second {self.now:g}"
        for key, lane in self.lanes.items():
            bounds, wanted = lane.model.bounds, self.scaling.wanted(key)
            assert wanted == lane.scheduler.runners, f"{where}: the shell and the decisions count differently"
            most = bounds.runners_max or max(bounds.runners_min, self.cores // bounds.runner_cores)
            assert bounds.runners_min <= wanted <= most, f"{where}: {wanted} runners of {key}"
            minima += bounds.runners_min * bounds.runner_cores
        assert self.scaling.charged_cores <= max(self.cores, minima), f"{where}: more cores than there are"
