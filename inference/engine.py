"""The request path: owns the waiting callers, obeys the scheduler, hands batches to runners. Lives on one event loop.

Every accepted request is answered exactly once: with a Prediction, or with the error that ended it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.scheduler import Decision, Expire, QueuePolicy, Refuse, Run, Scheduler
from inference.errors import InferenceError, RunFailed, Stopping
from inference.model import ModelKey
from inference.monitoring.counters import VersionMetrics
from inference.request import Answer, Batch, Prediction, Request, Slice, Timings
from inference.runtime.runner import BatchOutcome, Runner
from inference.runtime.session import Session
from inference.tensor import Tensors

log = logging.getLogger(__name__)

RUNNER_STOP_S = 5.0  # a runner that is still inside a session call after this is left behind
CANARY_BYTES_MAX = 1024 * 1024  # of a request that is kept as a version's canary
Done = Callable[[Answer], None]


@dataclass(slots=True)
class _Cut:
    """A request that was cut into slices, and the slices of it that are back."""

    rows_left: int
    started_s: float
    run_s: float = 0.0
    parts: list[tuple[int, Tensors]] = field(default_factory=list)
    non_finite: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Lane:
    """One served version: its queue, its runners and what waits for a quiet moment."""

    scheduler: Scheduler
    runners: dict[int, Runner]
    batched: bool
    canary: Tensors
    canary_runs: bool
    metrics: VersionMetrics
    started_s: dict[int, float] = field(default_factory=dict)
    quiet_calls: deque[tuple[Callable[[], object], asyncio.Future[object]]] = field(default_factory=deque)


class Engine:
    """Takes requests for open versions and answers them. All methods belong to the loop's thread.

    `clock` gives seconds and never goes back (`time.monotonic`); deadlines of requests are times of this clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lanes: dict[ModelKey, _Lane] = {}
        self._waiters: dict[Request, Done] = {}
        self._cut: dict[Request, _Cut] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._stopping = False
        self._drained: asyncio.Event | None = None

    @property
    def stopping(self) -> bool:
        """True once new requests are refused."""
        return self._stopping

    @property
    def waiting_callers(self) -> int:
        """Accepted requests without an answer."""
        return len(self._waiters)

    # ---- versions ----------------------------------------------------------------------------------------------------

    def open(
        self,
        key: ModelKey,
        session: Session,
        policy: QueuePolicy,
        bounds: AdmissionPolicy,
        *,
        runners: int,
        batched: bool,
        canary: Tensors,
        canary_runs: bool = True,
        metrics: VersionMetrics,
    ) -> None:
        """Serve this version with `runners` threads.

        `canary` tells a broken model from broken inputs. If it is not known to run, the first small request that is
        answered takes its place.
        """
        assert key not in self._lanes, f"{key} is open already"
        scheduler = Scheduler(policy, Admission(bounds))
        lane = _Lane(scheduler, {}, batched, canary, canary_runs, metrics)
        for number in range(runners):
            lane.runners[number] = Runner(f"{key}#{number}", session)
            lane.runners[number].start()
            scheduler.runner_idle(number, self.clock())
        self._lanes[key] = lane

    def close(self, key: ModelKey) -> bool:
        """Stop serving this version; callers that still wait are told. False if a runner did not come back in time."""
        lane = self._lanes.pop(key)
        for request in [request for request in self._waiters if request.model == key]:
            self._end(lane, request, Stopping(), self.clock())
        for _, future in lane.quiet_calls:
            future.cancel()
        stopped = [runner.stop(RUNNER_STOP_S) for runner in lane.runners.values()]
        return all(stopped)

    def change_policy(self, key: ModelKey, policy: QueuePolicy) -> None:
        """New limits for the queue of a version."""
        self._lanes[key].scheduler.change_policy(policy)

    def scheduler(self, key: ModelKey) -> Scheduler:
        """The scheduler of a version, to be read (depth, runners), not driven."""
        return self._lanes[key].scheduler

    # ---- requests ----------------------------------------------------------------------------------------------------

    def submit(self, request: Request, done: Done) -> None:
        """Accept or refuse. `done` is called once, on this loop, maybe before this returns."""
        lane = self._lanes.get(request.model)
        if self._stopping or lane is None:
            done(Stopping())
            return
        self._waiters[request] = done
        self._obey(lane, lane.scheduler.submit(request, self.clock()))
        if self._timer is None or request.deadline_s < self._timer_s:
            self._arm(request.deadline_s)

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        """Submit, and get the answer as a future that never fails; who stops waiting for it calls `cancel`."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        self.submit(request, done)
        return future

    async def predict(self, request: Request) -> Prediction:
        """The answer to `request`. Raises the InferenceError that ended it; a cancelled caller frees its place."""
        try:
            answer = await self.ask(request)
        finally:
            self.cancel(request)
        if isinstance(answer, InferenceError):
            raise answer
        return answer

    def cancel(self, request: Request) -> None:
        """The caller has left: its place is free, nothing of it that has not started will run. No-op once answered."""
        if self._waiters.pop(request, None) is None:
            return
        self._cut.pop(request, None)
        lane = self._lanes.get(request.model)
        if lane is not None:
            lane.scheduler.cancel(request)
            lane.metrics.count_error("cancelled")
        self._note_drained()

    async def when_quiet(self, key: ModelKey, function: Callable[[], object]) -> object:
        """Run `function` on an idle runner of this version while nobody waits, and return what it returns."""
        lane = self._lanes[key]
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        lane.quiet_calls.append((function, future))
        self._call_quietly(lane)
        return await future

    async def drain(self, limit_s: float) -> bool:
        """Refuse new requests and wait for the accepted ones, at most `limit_s`; then end the rest with Stopping."""
        self._stopping = True
        self._drained = asyncio.Event()
        self._note_drained()
        try:
            await asyncio.wait_for(self._drained.wait(), limit_s)
        except asyncio.TimeoutError:
            for request in list(self._waiters):
                self._end(self._lanes[request.model], request, Stopping(), self.clock())
            return False
        return True

    # ---- obeying -----------------------------------------------------------------------------------------------------

    def _obey(self, lane: _Lane, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                self._run(lane, decision.runner, decision.batch)
            elif isinstance(decision, (Refuse, Expire)):
                log.debug("%s", decision)
                self._end(lane, decision.request, decision.error, self.clock())

    def _run(self, lane: _Lane, number: int, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        lane.started_s[number] = self.clock()

        def done(outcome: BatchOutcome) -> None:  # in the runner's thread
            loop.call_soon_threadsafe(self._finished, lane, number, batch, outcome)

        lane.runners[number].run(batch, lane.batched, lane.canary, done)

    def _finished(self, lane: _Lane, number: int, batch: Batch, outcome: BatchOutcome) -> None:
        started_s = lane.started_s.pop(number)
        answered = list(zip(batch.slices, outcome.results, strict=True))
        for part, result in answered:
            if result.error is not None:
                lane.scheduler.cancel(part.request)
        rows, run_s, now = batch.rows, outcome.run_s, self.clock()
        self._obey(lane, lane.scheduler.runner_idle(number, now, run_s))
        lane.metrics.observe_batch(rows, run_s)
        for part, result in answered:
            request = part.request
            if request not in self._waiters:
                continue  # the caller left, or the deadline passed, while it ran
            if result.outputs is None:
                self._end(lane, request, result.error or RunFailed(str(request.model), "it gave no answer"), now)
                continue
            if not lane.canary_runs and request.byte_count <= CANARY_BYTES_MAX:
                lane.canary, lane.canary_runs = request.inputs, True
            if part.stop - part.start == request.rows:
                timings = Timings(started_s - request.arrived_s, run_s, rows)
                prediction = Prediction(request.id, request.model, result.outputs, timings, result.non_finite)
                self._end(lane, request, prediction, now)
            elif (whole := self._put_together(part, result.outputs, result.non_finite, started_s, run_s)) is not None:
                self._end(lane, request, whole, now)
        self._call_quietly(lane)

    def _put_together(
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

    def _end(self, lane: _Lane, request: Request, answer: Answer, now: float) -> None:
        """Answer the caller and forget the request."""
        done = self._waiters.pop(request, None)
        if done is None:
            return
        if self._cut:
            self._cut.pop(request, None)
        if isinstance(answer, InferenceError):
            lane.scheduler.cancel(request)
            lane.metrics.count_error(answer.reason)
        else:
            lane.metrics.observe_answer(answer.timings.queue_s, now - request.arrived_s)
        done(answer)
        if self._drained is not None:
            self._note_drained()

    def _call_quietly(self, lane: _Lane) -> None:
        while lane.quiet_calls:
            number = lane.scheduler.borrow_idle()
            if number is None:
                return
            function, future = lane.quiet_calls.popleft()
            self._call(lane, number, function, future)

    def _call(self, lane: _Lane, number: int, function: Callable[[], object], future: asyncio.Future[object]) -> None:
        loop = asyncio.get_running_loop()

        def done(result: object) -> None:  # in the runner's thread
            loop.call_soon_threadsafe(self._quiet_call_done, lane, number, future, result)

        lane.runners[number].call(function, done)

    def _quiet_call_done(self, lane: _Lane, number: int, future: asyncio.Future[object], result: object) -> None:
        self._obey(lane, lane.scheduler.runner_idle(number, self.clock()))
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
        self._call_quietly(lane)

    def _note_drained(self) -> None:
        if self._drained is not None and not self._waiters:
            self._drained.set()

    # ---- the one timer -----------------------------------------------------------------------------------------------

    def _arm(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = deadline_s
        delay_s = max(0.0, deadline_s - self.clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for lane in list(self._lanes.values()):
            self._obey(lane, lane.scheduler.tick(self.clock()))
        deadlines = [lane.scheduler.next_deadline() for lane in self._lanes.values()]
        upcoming = [deadline for deadline in deadlines if deadline is not None]
        if upcoming:
            self._arm(min(upcoming))
