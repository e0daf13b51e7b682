"""One served version as the engine sees it: queue, runners, what is counted of it, answers in the making."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.load_totals import LoadTotals
from inference.decisions.runner_load import Load, RunnerBounds
from inference.decisions.scheduler import QueuePolicy, Scheduler
from inference.errors import RunFailed
from inference.model import ModelKey
from inference.monitoring.counters import VersionMetrics
from inference.request import Answer, Prediction, Request, Slice, Timings
from inference.runtime.runner import Runner, SliceOutcome
from inference.runtime.session import Session
from inference.tensor import Tensors

log = logging.getLogger(__name__)

CANARY_BYTES_MAX = 1024 * 1024  # of a request that is kept as a version's canary
QuietCall = tuple[Callable[[], object], asyncio.Future[object]]


@dataclass(slots=True, frozen=True, eq=False)
class Service:
    """A version that is to be served, and within which bounds.

    `batched`: axis 0 of every tensor counts rows. `canary` tells a broken model from broken inputs; if it is not known
    to run (`canary_runs`), the first small request that is answered takes its place. `timings_s`: seconds of one call
    by its rows, as far as they were measured before. `bounded`: what a batch takes
    follows from its rows alone (see Session).
    """

    key: ModelKey
    session: Session
    queue: QueuePolicy
    admission: AdmissionPolicy
    runners: RunnerBounds
    batched: bool
    canary: Tensors
    metrics: VersionMetrics
    canary_runs: bool = True
    timings_s: dict[int, float] = field(default_factory=dict)
    bounded: bool = False


@dataclass(slots=True)
class _Cut:
    """A request that was cut into slices, and the slices of it that are back."""

    rows_left: int
    started_s: float
    run_s: float = 0.0
    parts: list[tuple[int, Tensors]] = field(default_factory=list)
    non_finite: set[str] = field(default_factory=set)


class Lane:
    """One served version."""

    def __init__(self, service: Service) -> None:
        self.key = service.key
        self.session = service.session
        self.batched = service.batched
        self.bounded = service.bounded
        self.canary = service.canary
        self.metrics = service.metrics
        admission = Admission(service.admission)
        if service.timings_s:
            admission.seed(service.timings_s)
        self.admission = admission
        self.scheduler = Scheduler(service.queue, admission)
        self.totals = LoadTotals(service.runners)
        self.runners: dict[int, Runner] = {}
        self.started_s: dict[int, float] = {}  # of the batches that run, by runner
        self.quiet_calls: deque[QuietCall] = deque()
        self.canary_runs = service.canary_runs
        self._runners_made = 0  # numbers of runners are never used again
        self._cut: dict[Request, _Cut] = {}

    def new_runner(self) -> int:
        """Start one more runner; its number. The scheduler has still to be told."""
        number = self._runners_made
        self._runners_made += 1
        runner = self.runners[number] = Runner(f"{self.key}#{number}", self.session)
        runner.start()
        return number

    def load(self, now: float) -> Load:
        """What scaling reads of this version."""
        scheduler = self.scheduler
        since_s = scheduler.waiting_since_s
        return self.totals.load(scheduler.runners, scheduler.waiting_rows, since_s, now, self.row_s())

    def row_s(self) -> float:
        """Seconds of a runner that a row of a full batch takes; 0 while nothing is known."""
        cost, knee = self.admission.cost, self.scheduler.policy.batch_rows_max or 1
        return cost.predict(knee) / knee if cost.known else 0.0

    def run_limit_base_s(self, rows: int) -> float | None:
        """What a run of so many rows is predicted to take at most; None while nothing is known."""
        cost = self.admission.cost
        return cost.upper(rows) if cost.known else None

    def adopt_canary(self, request: Request) -> None:
        """A request was answered: its inputs run."""
        if not self.canary_runs and request.byte_count <= CANARY_BYTES_MAX:
            self.canary, self.canary_runs = request.inputs, True

    def forget(self, request: Request) -> None:
        """Nobody waits for it any more."""
        if self._cut:
            self._cut.pop(request, None)

    def answer(self, part: Slice, result: SliceOutcome, started_s: float, run_s: float, rows: int) -> Answer | None:
        """What the caller of a slice gets, which came back from a batch of `rows`; None while more of it is out."""
        request = part.request
        if result.outputs is None:
            return result.error or RunFailed(str(request.model), "it gave no answer")
        if not self.canary_runs:
            self.adopt_canary(request)
        if part.stop - part.start != request.rows:
            return self.put_together(part, result.outputs, result.non_finite, started_s, run_s)
        timings = Timings(started_s - request.arrived_s, run_s, rows)
        return Prediction(request.id, request.model, result.outputs, timings, result.non_finite)

    def put_together(
        self, part: Slice, outputs: Tensors, non_finite: tuple[str, ...], started_s: float, run_s: float
    ) -> Prediction | None:
        """The answer to a cut request once all of its slices are back."""
        request = part.request
        cut = self._cut.get(request)
        if cut is None:
            cut = self._cut[request] = _Cut(request.rows, started_s)
        cut.rows_left -= part.rows
        cut.run_s += run_s
        cut.parts.append((part.start, outputs))
        cut.non_finite.update(non_finite)
        if cut.rows_left:
            return None
        ordered = [tensors for _, tensors in sorted(cut.parts, key=lambda item: item[0])]
        whole = {name: np.concatenate([tensors[name] for tensors in ordered]) for name in outputs}
        timings = Timings(cut.started_s - request.arrived_s, cut.run_s, part.rows)
        return Prediction(request.id, request.model, whole, timings, tuple(sorted(cut.non_finite)))
