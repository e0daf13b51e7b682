"""Which requests of one version run next, on which runner. Pure: events in, decisions out, `now` in seconds.

Greedy batching: a request runs at once when a runner is idle; the next batch is whatever queued meanwhile. No timer
holds a request back, so a lone caller never waits for company, and under load the batches fill by themselves.

Bounds: rows and bytes that wait; rows of a batch (the knee). A request above the knee is cut into slices; after each
slice it queues up behind the others, so that one large request holds up its neighbours for one batch at most.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from inference.errors import DeadlinePassed, InferenceError, QueueFull, TooLarge
from inference.request import Batch, Request, Slice

RETRY_AFTER_S = 1.0  # told to a refused caller
STALE_DEADLINES_MIN = 64  # the heap is rebuilt when seven of eight, and more than these, belong to ended requests


@dataclass(slots=True, frozen=True)
class QueuePolicy:
    """Limits of one version's queue. `batch_rows_max` is the knee; None: every request runs alone and uncut."""

    model: str
    rows_max: int
    bytes_max: int
    batch_rows_max: int | None


@dataclass(slots=True, frozen=True)
class Run:
    """Start this batch on this idle runner."""

    runner: int
    batch: Batch


@dataclass(slots=True, frozen=True)
class Refuse:
    """Tell the caller: not accepted, nothing was done."""

    request: Request
    error: InferenceError


@dataclass(slots=True, frozen=True)
class Expire:
    """Tell the caller: accepted, but its deadline passed. What is left of it will not run."""

    request: Request
    error: DeadlinePassed


Decision = Run | Refuse | Expire


@dataclass(slots=True)
class _Entry:
    """An accepted request: rows before `next_row` have been dispatched, `running_rows` of them are not back yet."""

    request: Request
    turn: int  # place in the order of arrival; a cut request gets a new one for each slice
    next_row: int = 0
    running_rows: int = 0

    @property
    def waiting_rows(self) -> int:
        return self.request.rows - self.next_row


class Scheduler:
    """The queue and the idle runners of one version.

    Events are methods; each returns the decisions that follow from it, in the order in which to carry them out. Every
    accepted request ends in exactly one of: all its rows run, `cancel`, or an Expire decision.
    """

    def __init__(self, policy: QueuePolicy) -> None:
        self._policy = policy
        self._groups: dict[Hashable, OrderedDict[Request, _Entry]] = {}
        self._live: dict[Request, _Entry] = {}
        self._idle: dict[int, None] = {}  # in the order of falling idle
        self._running: dict[int, Batch | None] = {}  # None: borrowed
        self._deadlines: list[tuple[float, int, Request]] = []
        self._turns = 0
        self.waiting_rows = 0
        self.waiting_bytes = 0

    @property
    def policy(self) -> QueuePolicy:
        """The limits in force."""
        return self._policy

    @property
    def live_requests(self) -> int:
        """Accepted requests that have not ended."""
        return len(self._live)

    @property
    def idle_runners(self) -> int:
        """Runners without work."""
        return len(self._idle)

    @property
    def runners(self) -> int:
        """Runners that idle or run."""
        return len(self._idle) + len(self._running)

    # ---- events ------------------------------------------------------------------------------------------------------

    def submit(self, request: Request, now: float) -> list[Decision]:
        """A caller asks. Refuses what exceeds the bounds, otherwise queues it and starts what can start."""
        error = self._refusal(request, now)
        if error is not None:
            return [Refuse(request, error)]
        entry = _Entry(request, self._next_turn())
        self._live[request] = entry
        self._enqueue(entry)
        self.waiting_rows += request.rows
        self.waiting_bytes += request.byte_count
        self._note_deadline(request)
        return self._dispatch() if self._idle else []

    def cancel(self, request: Request) -> bool:
        """The caller left, or the request failed: what has not started never will. False if it had ended already."""
        entry = self._live.pop(request, None)
        if entry is None:
            return False
        self._leave_queue(entry)
        return True

    def runner_idle(self, runner: int) -> list[Decision]:
        """A runner is new, or has finished what it ran (a batch, or what it was borrowed for)."""
        assert runner not in self._idle, f"runner {runner} fell idle twice"
        batch = self._running.pop(runner, None)
        if batch is not None:
            for part in batch.slices:
                self._slice_done(part)
        self._idle[runner] = None
        return self._dispatch()

    def runner_lost(self, runner: int) -> list[Slice]:
        """A runner is gone. Returns the slices that it was running and that somebody still waits for."""
        self._idle.pop(runner, None)
        batch = self._running.pop(runner, None)
        return [part for part in batch.slices if part.request in self._live] if batch else []

    def borrow_idle(self) -> int | None:
        """An idle runner for work of the server's own, if nobody waits; `runner_idle` gives it back."""
        if self.waiting_rows or not self._idle:
            return None
        runner, _ = self._idle.popitem()
        self._running[runner] = None
        return runner

    def tick(self, now: float) -> list[Decision]:
        """Time has passed: requests whose deadline is over end here, queued or running."""
        expired: list[Decision] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, request = heapq.heappop(self._deadlines)
            if self.cancel(request):
                expired.append(Expire(request, DeadlinePassed(str(request.model), now - request.arrived_s)))
        return expired

    def change_policy(self, policy: QueuePolicy) -> None:
        """New limits; what has been accepted stays accepted."""
        self._policy = policy

    def next_deadline(self) -> float | None:
        """When `tick` has to be called next."""
        while self._deadlines and self._deadlines[0][2] not in self._live:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _refusal(self, request: Request, now: float) -> InferenceError | None:
        policy = self._policy
        if request.rows > policy.rows_max:
            return TooLarge("request", f"{request.rows} rows", f"at most {policy.rows_max} rows, the queue's limit")
        if request.byte_count > policy.bytes_max:
            return TooLarge("request", f"{request.byte_count} bytes", f"at most {policy.bytes_max}, the queue's limit")
        if self.waiting_rows + request.rows > policy.rows_max:
            return QueueFull(policy.model, "rows", self.waiting_rows, policy.rows_max, RETRY_AFTER_S)
        if self.waiting_bytes + request.byte_count > policy.bytes_max:
            return QueueFull(policy.model, "bytes", self.waiting_bytes, policy.bytes_max, RETRY_AFTER_S)
        if request.deadline_s <= now:
            return DeadlinePassed(policy.model, now - request.arrived_s)
        return None

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def _enqueue(self, entry: _Entry) -> None:
        queue = self._groups.get(entry.request.group)
        if queue is None:
            queue = self._groups[entry.request.group] = OrderedDict()
        queue[entry.request] = entry

    def _leave_queue(self, entry: _Entry) -> None:
        """Give back the place of rows that wait; a request's bytes are given back with its last waiting row."""
        if not entry.waiting_rows:
            return
        group = entry.request.group
        queue = self._groups[group]
        del queue[entry.request]
        if not queue:
            del self._groups[group]
        self.waiting_rows -= entry.waiting_rows
        self.waiting_bytes -= entry.request.byte_count

    def _note_deadline(self, request: Request) -> None:
        heap = self._deadlines
        heapq.heappush(heap, (request.deadline_s, self._turns, request))
        if len(heap) > STALE_DEADLINES_MIN + 8 * len(self._live):
            heap[:] = [item for item in heap if item[2] in self._live]
            heapq.heapify(heap)

    def _dispatch(self) -> list[Decision]:
        decisions: list[Decision] = []
        while self._idle and self._groups:
            runner, _ = self._idle.popitem()  # the one that ran last has the warmest cache
            batch = self._next_batch()
            self._running[runner] = batch
            decisions.append(Run(runner, batch))
        return decisions

    def _next_batch(self) -> Batch:
        """Take from the group whose first request came first, in order, as many rows as the knee allows."""
        groups = self._groups
        group = next(iter(groups)) if len(groups) == 1 else min(groups, key=self._first_turn)
        queue = groups[group]
        knee = self._policy.batch_rows_max
        room = knee
        slices: list[Slice] = []
        while queue and room != 0:
            entry = next(iter(queue.values()))
            rows = entry.request.rows - entry.next_row
            if room is not None and rows > room:
                if slices and entry.request.rows <= (knee or 0):
                    break  # it fits whole into the next batch, so it is not cut
                rows = room
            slices.append(Slice(entry.request, entry.next_row, entry.next_row + rows))
            self._take(entry, rows, queue)
            if room is None:
                break
            room -= rows
        if not queue:
            del groups[group]
        return Batch(tuple(slices))

    def _first_turn(self, group: Hashable) -> int:
        return next(iter(self._groups[group].values())).turn

    def _take(self, entry: _Entry, rows: int, queue: OrderedDict[Request, _Entry]) -> None:
        entry.next_row += rows
        entry.running_rows += rows
        self.waiting_rows -= rows
        if entry.waiting_rows:
            entry.turn = self._next_turn()
            queue.move_to_end(entry.request)
        else:
            del queue[entry.request]
            self.waiting_bytes -= entry.request.byte_count

    def _slice_done(self, part: Slice) -> None:
        entry = self._live.get(part.request)
        if entry is None:
            return  # cancelled or expired while it ran
        entry.running_rows -= part.stop - part.start
        if not entry.running_rows and entry.next_row == part.request.rows:
            del self._live[part.request]
