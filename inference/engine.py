"""The request path: owns the waiting callers, obeys the scheduler, hands batches to runners. Lives on one event loop.

Every accepted request is answered exactly once: with a Prediction, or with the error that ended it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property, partial

from inference.after_reading import AfterReading
from inference.background_calls import BackgroundCalls
from inference.decisions.run_place import RunPlace
from inference.decisions.run_watch import Abandon, EndProcess, RunWatch, Terminate, WatchPolicy
from inference.decisions.runner_load import Load
from inference.decisions.scheduler import Decision, QueuePolicy, Refuse, Retire, Run, RunBackground, Scheduler
from inference.errors import DeadlinePassed, InferenceError, RunHung, Stopping
from inference.lane import Lane, Service
from inference.loop_calls import call_on
from inference.model import ModelKey
from inference.quiet_calls import QuietCalls
from inference.request import Answer, Batch, Prediction, Priority, Request
from inference.runtime.runner import BatchOutcome

log = logging.getLogger(__name__)

RUNNER_STOP_S = 5.0  # a runner that is still inside a session call after this is left behind
CALM_CALLERS = 2
CORES = 2  # of an engine that is not told: runners have one, the loop another
ROUNDS_TO_ANSWER = 2  # a runner shares the processor with one that reads, and its answer waits in the next
Done = Callable[[Answer], None]
_Returned = tuple[Lane, int, Batch, int, BatchOutcome]


class Engine:
    """Takes requests for open versions and answers them. All methods belong to the loop's thread.

    `clock` gives seconds and never goes back (`time.monotonic`); deadlines of requests are times of this clock.
    `give_up(reason)` is called when only a new process helps: too many runs hang that cannot be stopped. `cores`: those
    that the loop and all runners share.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        give_up: Callable[[str], object] | None = None,
        watch: WatchPolicy | None = None,
        cores: int = CORES,
    ) -> None:
        self.clock = clock
        self._give_up = give_up or log.critical
        self._watch = RunWatch(watch)
        self._place = RunPlace(cores)
        self._quiet = QuietCalls(lambda lane, number: self._obey(lane, lane.scheduler.runner_idle(number, clock())))
        self._all_read = False  # True while all has just been read that could be read
        self._lanes: dict[ModelKey, Lane] = {}
        parts = self._obey, self._watch_run, self._quiet.start
        self.background = BackgroundCalls(clock, self._lanes, self._watch, *parts)
        self._waiters: dict[Request, Done] = {}
        self._after_reading = AfterReading(clock)
        self._outcomes: deque[_Returned] = deque()  # filled by runners' threads
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

    def is_calm(self) -> bool:
        """True while so few callers wait that nobody's request is held up by the reading of others'."""
        return len(self._waiters) < CALM_CALLERS

    # ---- versions ----------------------------------------------------------------------------------------------------

    def open(self, service: Service) -> None:
        """Serve this version, with as few runners as it may have."""
        key = service.key
        assert key not in self._lanes, f"{key} is open already"
        self._lanes[key] = Lane(service)
        self.grow(key, service.runners.runners_min)

    def close(self, key: ModelKey) -> bool:
        """Stop serving this version; callers that still wait are told. False if a runner did not come back in time."""
        lane = self._lanes.pop(key)
        for request in [request for request in self._waiters if request.model == key]:
            self._end(lane, request, Stopping(), self.clock())
        self.background.close(key)
        for _, future in lane.quiet_calls:
            future.cancel()
        self._watch.forget(key)
        stopped = [runner.stop(RUNNER_STOP_S) for runner in lane.runners.values()]
        return all(stopped)

    def change_policy(self, key: ModelKey, policy: QueuePolicy) -> None:
        """New limits for the queue of a version."""
        self._lanes[key].scheduler.change_policy(policy)

    def scheduler(self, key: ModelKey) -> Scheduler:
        """The scheduler of a version, to be read (depth, runners), not driven."""
        return self._lanes[key].scheduler

    def grow(self, key: ModelKey, by: int) -> None:
        """So many runners more."""
        lane = self._lanes[key]
        for _ in range(by):
            self._obey(lane, lane.scheduler.runner_idle(lane.new_runner(), self.clock()))
        self._quiet.start(lane)

    def shrink(self, key: ModelKey, by: int) -> None:
        """So many runners fewer: idle ones now, busy ones after their batch."""
        lane = self._lanes[key]
        self._obey(lane, lane.scheduler.retire(by))

    def loads(self) -> dict[ModelKey, Load]:
        """What each version did since it was opened, for scaling."""
        now = self.clock()
        return {key: lane.load(now) for key, lane in self._lanes.items()}

    def observe_round(self, seconds: float) -> None:
        """A round of the loop takes so long now, from reading sockets to reading them again; 0: too short to matter."""
        self._place.rounds_short = not seconds
        for lane in self._lanes.values():
            lane.admission.observe_overhead(ROUNDS_TO_ANSWER * seconds)

    def hung_s(self, key: ModelKey) -> float | None:
        """The limit in seconds that a run of this version has passed, until a run of it ends as it should; or None."""
        return self._watch.hung(key)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def refusal(self, key: ModelKey, priority: Priority, deadline_s: float) -> InferenceError | None:
        """Why a request of this version would be refused whatever it holds, or None: said before it is read."""
        lane = self._lanes.get(key)
        if self._stopping or lane is None:
            return Stopping()
        error = lane.admission.judge_time(priority, 1, deadline_s, self.clock())
        if error is not None:
            lane.totals.refused_unread(error)
            lane.metrics.count_error(error.reason)
        return error

    def submit(self, request: Request, done: Done) -> None:
        """Accept or refuse. `done` is called once, on this loop, maybe before this returns."""
        lane = self._lanes.get(request.model)
        if self._stopping or lane is None:
            done(Stopping())
            return
        self._waiters[request] = done
        decisions = lane.scheduler.submit(request, self.clock())
        if decisions:
            self._obey(lane, decisions)
        if request in self._waiters:
            lane.totals.accepted(request)
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
        lane = self._lanes.get(request.model)
        if lane is not None:
            lane.forget(request)
            lane.scheduler.cancel(request)
            lane.metrics.count_error("cancelled")
        self._note_drained()

    async def when_quiet(self, key: ModelKey, function: Callable[[], object]) -> object:
        """Run `function` on an idle runner of this version while nobody waits, and return what it returns."""
        return await self._quiet.ask(self._lanes[key], function)

    async def drain(self, limit_s: float) -> bool:
        """Refuse new requests and wait for the accepted ones, at most `limit_s`; then end the rest with Stopping."""
        self._stopping = True
        self.background.close()
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

    def _obey(self, lane: Lane, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                self._run(lane, decision.runner, decision.batch)
            elif isinstance(decision, RunBackground):
                self.background.run(lane, decision.runner, decision.batch)
            elif isinstance(decision, Retire):
                lane.runners.pop(decision.runner).stop(0.0)
            else:
                log.debug("%s", decision)
                if isinstance(decision, Refuse):
                    lane.totals.refused(decision.request, decision.error)
                self._end(lane, decision.request, decision.error, self.clock())

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # looked up once: Python 3.11 asks the system for its process each time

    def _run(self, lane: Lane, number: int, batch: Batch) -> None:
        loop, now = self._loop, self.clock()
        lane.started_s[number] = now
        lane.totals.batch_started(number, batch, now)
        rows = batch.rows
        full = rows == lane.scheduler.policy.batch_rows_max
        if lane.bounded and self._place.here(lane.run_limit_base_s(rows), now, full=full, alone=self.is_calm()):
            if self._all_read:
                self._run_here(lane, number, batch)
            else:
                self._after_reading.add(loop, self._run_here, lane, number, batch)
            return
        self._watch_run(lane, number, rows, now)

        def done(outcome: BatchOutcome) -> None:  # in the runner's thread
            self._outcomes.append((lane, number, batch, rows, outcome))
            loop.call_soon_threadsafe(self.collect)

        def again() -> None:  # in the runner's thread, before it calls the session once more
            loop.call_soon_threadsafe(self._runs_again, lane, number, rows)

        lane.runners[number].run(batch, lane.batched, lane.canary, done, again)

    def _run_here(self, lane: Lane, number: int, batch: Batch) -> None:
        """Run a batch in this thread. Its runner counts as busy until the sockets have been read once more, since who
        is answered now asks again now: their requests make one batch, and not the first of them one of its own."""
        if self._lanes.get(lane.key) is not lane:
            return  # closed meanwhile, and its callers were told
        rows, run_s = batch.rows, None
        started_s = lane.started_s.pop(number)
        if any(part.request in self._waiters for part in batch.slices):
            outcome = lane.runners[number].run_here(batch, lane.batched, lane.canary)
            run_s, now = outcome.run_s, self.clock()
            self._answer(lane, batch, rows, outcome, started_s, now)
            lane.metrics.observe_batch(rows, run_s)
            self._place.ran(run_s, now)
        lane.totals.batch_finished(number, rows, self.clock())
        self._after_reading.add(self._loop, self._read_once_more, lane, number, run_s)

    def _read_once_more(self, lane: Lane, number: int, run_s: float | None) -> None:
        if self._lanes.get(lane.key) is lane:
            self._all_read = True
            self._obey(lane, lane.scheduler.runner_idle(number, self.clock(), run_s))
            self._all_read = False
            self._quiet.start(lane)

    def _watch_run(self, lane: Lane, number: int, rows: int, now: float) -> None:
        due_s = self._watch.start(lane.key, number, lane.run_limit_base_s(rows), now)
        if self._timer is None or due_s < self._timer_s:
            self._arm(due_s)

    def _runs_again(self, lane: Lane, number: int, rows: int) -> None:
        if number in lane.started_s:
            self._watch_run(lane, number, rows, self.clock())

    def collect(self) -> None:
        """Answer what runners have brought back.

        The loop gets round to it by itself. Who keeps the loop busy may call it in between, so that answers that are
        there do not wait until everybody has been read.
        """
        self._after_reading.overdue()
        outcomes = self._outcomes
        while outcomes:
            self._finished(*outcomes.popleft())

    def _finished(self, lane: Lane, number: int, batch: Batch, rows: int, outcome: BatchOutcome) -> None:
        self._watch.end(lane.key, number)
        started_s, now = lane.started_s.pop(number), self.clock()
        lane.totals.batch_finished(number, rows, now)
        lane.metrics.observe_batch(rows, outcome.run_s)
        for part, result in zip(batch.slices, outcome.results, strict=True):
            if result.error is not None:
                lane.scheduler.cancel(part.request)  # nothing more of it runs
        self._obey(lane, lane.scheduler.runner_idle(number, now, outcome.run_s))  # it works while the answers are sent
        self._answer(lane, batch, rows, outcome, started_s, now)
        if lane.quiet_calls:
            self._quiet.start(lane)

    def _answer(self, lane: Lane, batch: Batch, rows: int, outcome: BatchOutcome, started_s: float, now: float) -> None:
        """Answer the callers of a batch who still wait."""
        for part, result in zip(batch.slices, outcome.results, strict=True):
            request = part.request
            if request not in self._waiters:
                continue  # the caller left, or the deadline passed, while it ran
            answer = lane.answer(part, result, started_s, outcome.run_s, rows)
            if answer is not None:
                self._end(lane, request, answer, now)

    def _end(self, lane: Lane, request: Request, answer: Answer, now: float) -> None:
        """Answer the caller and forget the request."""
        done = self._waiters.pop(request, None)
        if done is None:
            self.background.end(request, answer)
            return
        lane.forget(request)
        if isinstance(answer, InferenceError):
            lane.scheduler.cancel(request)
            lane.metrics.count_error(answer.reason)
            if isinstance(answer, DeadlinePassed):
                lane.admission.answered(request, now)
            done(answer)
        else:
            done(answer)  # first of all: the caller goes on while the answer is counted
            lane.metrics.observe_answer(answer.timings.queue_s, now - request.arrived_s)
            lane.admission.answered(request, now)
        if self._drained is not None:
            self._note_drained()

    # ---- runs that hang ----------------------------------------------------------------------------------------------

    def _stop_hung_runs(self, now: float) -> None:
        for decision in self._watch.tick(now):
            lane = self._lanes.get(decision.version)
            if lane is None or decision.runner not in lane.started_s:
                continue
            if isinstance(decision, Terminate):
                log.error("model %s: a run takes longer than %g s and is stopped", lane.key, decision.limit_s)
                lane.runners[decision.runner].interrupt(decision.limit_s)
            else:
                self._abandon(lane, decision, now)

    def _abandon(self, lane: Lane, decision: Abandon | EndProcess, now: float) -> None:
        """The run cannot be stopped: its thread is left to itself, and another takes its place."""
        number = decision.runner
        came_back = partial(call_on, self._loop, self._watch.end, lane.key, number)
        if not lane.runners[number].abandon(came_back):
            return  # it ended this moment, and its outcome is on its way
        del lane.runners[number], lane.started_s[number]
        lane.totals.runner_lost(number, now)
        for part in lane.scheduler.runner_lost(number, now):
            self._end(lane, part.request, RunHung(str(lane.key), decision.limit_s), now)
        if isinstance(decision, EndProcess):
            self._give_up(f"model {lane.key}: a run hangs, cannot be stopped, and too many threads are lost already")
            return
        log.error("model %s: a run could not be stopped; its thread is given up and replaced", lane.key)
        self.grow(lane.key, 1)

    def _note_drained(self) -> None:
        if self._drained is not None and not self._waiters:
            self._drained.set()

    # ---- the one timer -----------------------------------------------------------------------------------------------

    def _arm(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = deadline_s
        delay_s = max(0.0, deadline_s - self.clock())
        self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock()
        for lane in list(self._lanes.values()):
            self._obey(lane, lane.scheduler.tick(now))
        self._stop_hung_runs(now)
        deadlines = [self._watch.next_deadline(), *(lane.scheduler.next_deadline() for lane in self._lanes.values())]
        upcoming = [deadline for deadline in deadlines if deadline is not None]
        if upcoming:
            self._arm(min(upcoming))
