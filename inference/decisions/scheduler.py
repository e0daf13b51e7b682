"""Which requests of one version run next, on which runner. Pure: events in, decisions out, `now` in seconds.

Greedy batching: a request runs at once when a runner is idle; the next batch is whatever queued meanwhile. No timer
holds a request back, so a lone caller never waits for company, and under load the batches fill by themselves.

Order: bands of priority strictly one after another, inside a band the earliest deadline first. The first request says
which group runs; the batch is filled with that group, in the same order over all bands, up to the knee, and nobody is
overtaken by a later one that would have fitted. A request above the knee is cut; after each slice its rest goes behind
all of its group and band that wait, so that it holds each of them up for one batch at most.

Aging: of the batches one in OVERDUE_EVERY begins with the request that has waited longest, if that is `patience_s` or
more. So every wait has a bound, in the lowest band and under any load: with `a` requests that had waited longer when
it came, R runners, and T from one start of a runner to its next, a request (or the rest of one that was cut, counted
from its last slice) waits at most

    patience_s + ceil(OVERDUE_EVERY * (a + 1) / R) * T

since nobody gets ahead of it in age, each runner starts a batch every T while it waits, and OVERDUE_EVERY of these
start one of the a + 1. `a` is less than the rows that may wait (`AdmissionPolicy.rows_max`).

What may wait is bounded by the admission, which is asked for each request and told what becomes of it.

Background: rows of jobs wait apart, and nothing above counts them: no band, no aging, no deadline, no bound of the
admission. They run where a runner would idle, in batches of their own (`background_band`); before live rows that wait
they run as far as their minimum share goes (`background_share`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

import msgspec

from inference.decisions.admission import Admission
from inference.decisions.background_band import BackgroundBand
from inference.decisions.background_share import BackgroundPolicy
from inference.decisions.band import Band, Entry
from inference.errors import DeadlinePassed, InferenceError
from inference.request import LIVE_PRIORITIES, Batch, Request, Slice

OVERDUE_EVERY = 4  # batches of which one may go to who has waited longest: a quarter at most is out of order
STALE_DEADLINES_MIN = 64  # the heap is rebuilt when seven of eight, and more than these, belong to ended requests


class QueuePolicy(msgspec.Struct, frozen=True):
    """How one version's queue is served.

    `batch_rows_max` is the knee; None: every request runs alone and uncut. After `patience_s` of waiting a request is
    overdue.
    """

    model: str
    batch_rows_max: int | None
    patience_s: float = 1.0
    background: BackgroundPolicy = BackgroundPolicy()


class Run(msgspec.Struct, frozen=True):
    """Start this batch on this idle runner."""

    runner: int
    batch: Batch


class RunBackground(msgspec.Struct, frozen=True):
    """Start this batch of background rows, one slice, on this idle runner."""

    runner: int
    batch: Batch


class Refuse(msgspec.Struct, frozen=True):
    """Tell the caller: not accepted, nothing was done."""

    request: Request
    error: InferenceError


class Expire(msgspec.Struct, frozen=True):
    """Tell the caller: accepted, but its deadline passed. What is left of it will not run."""

    request: Request
    error: DeadlinePassed


class Retire(msgspec.Struct, frozen=True):
    """End this runner: it has no work and will get none."""

    runner: int


Decision = Run | RunBackground | Refuse | Expire | Retire


class _Running(msgspec.Struct, frozen=True):
    batch: Batch
    rows: int
    started_s: float


class Scheduler:
    """The queue and the runners of one version.

    Events are methods; each returns the decisions that follow from it, in the order in which to carry them out. Every
    accepted request ends in exactly one of: all its rows run, `cancel`, or an Expire decision. Numbers of runners are
    never used again: what a lost runner still sends is for the shell to drop.
    """

    def __init__(self, policy: QueuePolicy, admission: Admission) -> None:
        self._admission = admission
        self._background = BackgroundBand(admission, policy.background, policy.batch_rows_max)
        self._bands = {priority: Band() for priority in LIVE_PRIORITIES}  # in the order in which they are served
        self._live: dict[Request, Entry] = {}
        self._waiting: OrderedDict[Request, Entry] = OrderedDict()  # who has waited longest comes first
        self._idle: dict[int, None] = {}  # in the order of falling idle
        self._running: dict[int, _Running | None] = {}  # None: borrowed, or it runs background rows
        self._loan_refused = False  # since background rows had the runner
        self._retiring = 0  # runners that end as soon as they have no work
        self._deadlines: list[tuple[float, int, Request]] = []
        self._turns = 0
        self._batches_in_order = 0  # since the last one that began with an overdue request
        self.change_policy(policy)

    @property
    def policy(self) -> QueuePolicy:
        """The limits in force."""
        return self._policy

    @property
    def admission(self) -> Admission:
        """Which requests are taken."""
        return self._admission

    @property
    def waiting_rows(self) -> int:
        """Accepted rows that have not been dispatched."""
        return self._admission.waiting_rows

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the requests of which rows wait."""
        return self._admission.waiting_bytes

    @property
    def waiting_since_s(self) -> float | None:
        """Since when the request waits that has waited longest; None if nobody waits."""
        return next(iter(self._waiting.values())).since_s if self._waiting else None

    @property
    def live_requests(self) -> int:
        """Accepted requests that have not ended."""
        return len(self._live)

    @property
    def background(self) -> BackgroundBand:
        """Rows of jobs, to be read (rows and requests that wait), not driven."""
        return self._background

    @property
    def idle_runners(self) -> int:
        """Runners without work."""
        return len(self._idle)

    @property
    def runners(self) -> int:
        """Runners that idle, run or are borrowed, but for those that end when they have finished."""
        return len(self._idle) + len(self._running) - self._retiring

    # ---- events ------------------------------------------------------------------------------------------------------

    def submit(self, request: Request, now: float) -> list[Decision]:
        """A caller asks. Refuses what the admission does not take, else queues it and starts what can start."""
        error = self._admission.judge(request, now)
        if error is not None:
            return [Refuse(request, error)]
        self._admission.accepted(request)
        entry = Entry(request, request.deadline_s, self._next_turn(), now)
        self._live[request] = self._waiting[request] = entry
        self._bands[request.priority].add(entry)
        self._note_deadline(request)
        return self._dispatch(now) if self._idle else []

    def submit_background(self, request: Request, now: float) -> list[Decision]:
        """A job asks, with a batch of its rows. Refuses more requests at a time than the background band takes."""
        error = self._background.submit(request, self.runners, now)
        if error is not None:
            return [Refuse(request, error)]
        return self._dispatch(now) if self._idle else []

    def cancel(self, request: Request) -> bool:
        """The caller left, or the request failed: what has not started never will. False if it had ended already."""
        entry = self._live.pop(request, None)
        if entry is None:
            return self._background.cancel(request)
        self._leave_queue(entry)
        return True

    def runner_idle(self, runner: int, now: float, run_s: float | None = None) -> list[Decision]:
        """A runner is new, or has finished what it ran: a batch, which took `run_s`, or what it was borrowed for.

        Without `run_s` the batch took as long as it was out.
        """
        assert runner not in self._idle, f"runner {runner} fell idle twice"
        new = runner not in self._running
        ran = self._running.pop(runner, None)
        self._idle[runner] = None
        if new:
            self._admission.runners_changed(self.runners)
        elif ran is not None:
            for part in ran.batch.slices:
                self._slice_done(part)
            self._admission.batch_finished(runner, ran.rows, now - ran.started_s if run_s is None else run_s, now)
        else:
            self._background.finished(runner, run_s, now)
        if self._retiring:
            return [*self._retire_idle(), *self._dispatch(now)]
        return self._dispatch(now)

    def runner_lost(self, runner: int, now: float) -> list[Slice]:
        """A runner is gone. Returns the slices that it was running and that somebody still waits for.

        They are not run again, since they may be what ended it: the shell answers their callers, and cancels them.
        """
        known = runner in self._idle or runner in self._running
        self._idle.pop(runner, None)
        ran = self._running.pop(runner, None)
        if ran is not None:
            self._admission.batch_lost(runner, ran.rows, now)
        if known:
            self._retiring = min(self._retiring, len(self._idle) + len(self._running))
            self._admission.runners_changed(self.runners)
        if ran is None:
            return self._background.lost(runner, now)
        return [part for part in ran.batch.slices if part.request in self._live]

    def retire(self, count: int) -> list[Decision]:
        """`count` runners fewer, or all there are. Idle ones end now, others when they have finished what they run."""
        self._retiring = min(self._retiring + count, len(self._idle) + len(self._running))
        self._admission.runners_changed(self.runners)
        return self._retire_idle()

    def borrow_idle(self) -> int | None:
        """An idle runner for work of the server's own, if nobody waits; `runner_idle` gives it back.

        A runner that only background rows would take next is kept for whoever asked in vain, and asks again then.
        """
        if not self._idle:  # so it is whenever somebody waits
            self._loan_refused = True
            return None
        self._loan_refused = False
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
        self._background.change_policy(policy.background, policy.batch_rows_max, self.runners)
        self._admission.batches_changed(policy.batch_rows_max, policy.patience_s)

    def next_deadline(self) -> float | None:
        """When `tick` has to be called next."""
        while self._deadlines and self._deadlines[0][2] not in self._live:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _retire_idle(self) -> list[Decision]:
        decisions: list[Decision] = []
        while self._retiring and self._idle:
            runner = next(iter(self._idle))  # it has idled for longest
            del self._idle[runner]
            self._retiring -= 1
            decisions.append(Retire(runner))
        return decisions

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def _leave_queue(self, entry: Entry) -> None:
        """Give back the place of rows that wait."""
        request = entry.request
        if self._waiting.pop(request, None) is None:
            return  # all of it runs
        self._bands[request.priority].remove(entry)
        self._admission.left_queue(request, entry.waiting_rows, last=True)

    def _note_deadline(self, request: Request) -> None:
        heap = self._deadlines
        heapq.heappush(heap, (request.deadline_s, self._turns, request))
        if len(heap) > STALE_DEADLINES_MIN + 8 * len(self._live):
            heap[:] = [item for item in heap if item[2] in self._live]
            heapq.heapify(heap)

    def _dispatch(self, now: float) -> list[Decision]:
        return self._dispatch_all(now) if self._background.rows else self._dispatch_live(now)

    def _dispatch_all(self, now: float) -> list[Decision]:
        """What is due of the background's share, then live rows, then background rows where runners still idle."""
        background = self._background
        decisions: list[Decision] = []
        while self._idle and self._waiting and background.rows and background.may_go_first(self.runners, now):
            decisions.append(self._start_background(now))
        decisions += self._dispatch_live(now)
        kept = 1 if self._loan_refused else 0
        while len(self._idle) > kept and background.rows:
            decisions.append(self._start_background(now))
        return decisions

    def _start_background(self, now: float) -> RunBackground:
        runner, _ = self._idle.popitem()
        self._running[runner] = None
        return RunBackground(runner, self._background.start(runner, now))

    def _dispatch_live(self, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        while self._idle and self._waiting:
            runner, _ = self._idle.popitem()  # the one that ran last has the warmest cache
            slices = self._next_slices(now)
            rows = sum([part.stop - part.start for part in slices])
            batch = Batch(tuple(slices))
            self._running[runner] = _Running(batch, rows, now)
            self._admission.batch_started(runner, rows, now)
            decisions.append(Run(runner, batch))
        return decisions

    def _next_slices(self, now: float) -> list[Slice]:
        """The first request or the overdue one, and as many rows of its group behind it as the knee allows."""
        first = self._first(now)
        self._bands[first.request.priority].remove(first)
        knee = self._policy.batch_rows_max
        if knee is None:
            return [self._start(first, first.waiting_rows, now)]
        rows = min(first.waiting_rows, knee)
        slices = [self._start(first, rows, now)]
        room = knee - rows
        for band in self._bands.values() if room and self._waiting else ():
            taken, room = band.take(first.request.group, room, knee)
            slices += [self._start(entry, rows, now) for entry, rows in taken]
            if not room:
                break
        return slices

    def _first(self, now: float) -> Entry:
        if self._batches_in_order >= OVERDUE_EVERY - 1:
            oldest = next(iter(self._waiting.values()))
            if now - oldest.since_s >= self._policy.patience_s:
                self._batches_in_order = 0
                return oldest
        self._batches_in_order += 1
        for band in self._bands.values():
            if (first := band.first()) is not None:
                return first
        raise AssertionError("nobody waits in any band")

    def _start(self, entry: Entry, rows: int, now: float) -> Slice:
        """These rows run now. The entry has been taken out of its band; the rest of a cut one goes back into it."""
        request, start = entry.request, entry.next_row
        stop = entry.next_row = start + rows
        entry.running_rows += rows
        last = stop == request.rows
        if last:
            del self._waiting[request]
        else:
            entry.since_s = now
            self._waiting.move_to_end(request)
            self._bands[request.priority].add_rest(entry, self._next_turn())
        self._admission.left_queue(request, rows, last=last)
        return Slice(request, start, stop)

    def _slice_done(self, part: Slice) -> None:
        entry = self._live.get(part.request)
        if entry is None:
            return  # cancelled or expired while it ran
        entry.running_rows -= part.stop - part.start
        if not entry.running_rows and entry.next_row == part.request.rows:
            del self._live[part.request]
