"""The requests of jobs: who waits for each, apart from live callers, and their batches in the runners' threads.

A live request meets nothing of this: no dictionary that it is looked up in, no figure that scaling reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from inference.decisions.run_watch import RunWatch
from inference.decisions.scheduler import Decision, Refuse
from inference.errors import Stopping
from inference.lane import Lane
from inference.loop_calls import call_on
from inference.model import ModelKey
from inference.request import Answer, Batch, Request
from inference.runtime.runner import BatchOutcome

Done = Callable[[Answer], None]


class BackgroundCalls:
    """Background requests of one engine; all methods belong to its loop. The engine's own parts are passed in:

    `lanes` by version; `obey(lane, decisions)`; `watch_run(lane, runner, rows, now)` when a session call begins;
    `go_on(lane)` after a runner came back and was not given more.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lanes: Mapping[ModelKey, Lane],
        watch: RunWatch,
        obey: Callable[[Lane, list[Decision]], None],
        watch_run: Callable[[Lane, int, int, float], None],
        go_on: Callable[[Lane], None],
    ) -> None:
        self._clock = clock
        self._lanes = lanes
        self._watch = watch
        self._obey = obey
        self._watch_run = watch_run
        self._go_on = go_on
        self._waiters: dict[Request, Done] = {}
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._waiters)

    def submit(self, request: Request, done: Done) -> None:
        """Accept or refuse a request of `Priority.BACKGROUND`. `done` is called once, maybe before this returns.

        Refused are more than `background_band.REQUESTS_MAX` of one version at a time (QueueFull), and all once the
        engine stops (Stopping). What fails is told as to a live caller; there is no deadline.
        """
        lane = self._lanes.get(request.model)
        if self._stopping or lane is None:
            done(Stopping())
            return
        self._waiters[request] = done
        decisions = lane.scheduler.submit_background(request, self._clock())
        if decisions and isinstance(refusal := decisions[0], Refuse):
            self.end(request, refusal.error)
        else:
            self._obey(lane, decisions)

    def cancel(self, request: Request) -> None:
        """Nobody waits for it any more, and what has not started never will. No-op once answered."""
        if self._waiters.pop(request, None) is not None:
            self._forget(request)

    def end(self, request: Request, answer: Answer) -> None:
        """Answer whoever waits for it. No-op if nobody does."""
        done = self._waiters.pop(request, None)
        if done is not None:
            self._forget(request)
            done(answer)

    def close(self, key: ModelKey | None = None) -> None:
        """End those of a version that is closed; without `key` all, and take no more."""
        self._stopping |= key is None
        for request in [request for request in self._waiters if key in (None, request.model)]:
            self.end(request, Stopping())

    def run(self, lane: Lane, number: int, batch: Batch) -> None:
        """Run a batch on this runner, in its thread."""
        loop, now, rows = asyncio.get_running_loop(), self._clock(), batch.slices[0].rows
        lane.started_s[number] = now
        self._watch_run(lane, number, rows, now)

        def done(outcome: BatchOutcome) -> None:  # in the runner's thread
            call_on(loop, self._finished, lane, number, batch, outcome)

        def again() -> None:  # in the runner's thread, before it calls the session once more
            call_on(loop, self._runs_again, lane, number, rows)

        lane.runners[number].run(batch, lane.batched, lane.canary, done, again)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _runs_again(self, lane: Lane, number: int, rows: int) -> None:
        if number in lane.started_s:
            self._watch_run(lane, number, rows, self._clock())

    def _finished(self, lane: Lane, number: int, batch: Batch, outcome: BatchOutcome) -> None:
        started_s, now = lane.started_s.pop(number), self._clock()
        self._watch.end(lane.key, number)
        if self._lanes.get(lane.key) is not lane:
            return  # closed meanwhile, and whoever waited was told
        (part,), (result,) = batch.slices, outcome.results
        request = part.request
        if result.outputs is None:
            lane.scheduler.cancel(request)  # nothing more of it runs
        self._obey(lane, lane.scheduler.runner_idle(number, now, outcome.run_s))
        self._go_on(lane)
        if request not in self._waiters:
            return
        answer = lane.answer(part, result, started_s, outcome.run_s, part.rows)
        if answer is not None:
            self.end(request, answer)

    def _forget(self, request: Request) -> None:
        lane = self._lanes.get(request.model)
        if lane is not None:
            lane.forget(request)
            lane.scheduler.cancel(request)
