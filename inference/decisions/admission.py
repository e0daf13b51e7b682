"""Whether a request is taken. Pure: `now` in seconds, nothing is changed by asking but what is learned from it.

Bounds: rows and bytes that wait, and the time that what waits will take. Within them a request is taken if it can be
answered by its deadline and makes nobody late who was taken before. Who is refused hears it at once, with the time in
which it might go better. While nothing is known of what a batch takes, only the bounds count.

The arithmetic, after the order of the scheduler (bands strictly one after another, the earliest deadline first inside a
band, full batches) on R runners:

    row_s   seconds that each waiting row adds: what a full batch takes, by its rows, by R, and DRIFT on top
    start   now + what is left of the running batches / R
    done    start + (rows ahead + own rows) * row_s + tail
    tail    what full batches and busy runners may add, and the margin that is learned (`promise_margin`)

While a job's rows wait or run, their share of the runners makes row_s larger, and what they may take at once before
live rows (`background_share`) is part of the tail. They themselves are never judged.

`done` plus the work that the bands above will bring (`band_demand`) has to be within the deadline, and nobody behind
may be put off by more than they can be (`committed_work`). Two shorter ways, which nearly all requests take while there
is no overload: a runner idles and nobody waits; or all that waits, in whatever order, is done before anybody is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt

from inference.decisions.band_demand import BandDemand
from inference.decisions.committed_work import CommittedWork
from inference.decisions.cost_model import CostModel
from inference.decisions.promise_margin import PART_MAX, PromiseMargin
from inference.errors import DeadlinePassed, DeadlineUnreachable, InferenceError, QueueFull, TooLarge
from inference.request import Priority, Request

RETRY_AFTER_S = 1.0  # told to a refused caller while nothing is known of what a batch takes
RETRY_AFTER_MIN_S = 0.001
RETRY_AFTER_MAX_S = 30.0
DRIFT = 1.05  # a row may come to cost this much more while it waits
FILL_STEP = 0.03
ROWS_UNCUT = 1 << 62  # where every request runs alone
CROWDED_SHARE = 0.85  # of the capacity: if more is asked for, the bands above have their part kept free


@dataclass(slots=True, frozen=True)
class AdmissionPolicy:
    """Bounds of what may wait for one version; `ms_max` bounds the predicted wait of a request."""

    model: str
    rows_max: int
    bytes_max: int
    ms_max: int = 30_000


class Admission:
    """The bounds of one version's queue. The scheduler asks `judge`, then tells what it did."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self.policy = policy
        self.cost = CostModel()
        self.margin = PromiseMargin()
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self._committed = CommittedWork()
        self._demand = BandDemand()
        self._runners = 1
        self._started_s: dict[int, float] = {}  # of the runners that run
        self._ends_s: dict[int, float] = {}  # predicted
        self._rows_full = 1  # of a full batch
        self._rows_uncut = ROWS_UNCUT
        self._patience_s = inf
        self._fill = 1.0  # rows that a batch has when there are enough: less than the knee if groups differ
        self._fills = 1  # how many batches have shown it
        self._row_s = 0.0
        self._tail_s = 0.0  # without the margin
        self._background_share = self._background_s = 0.0  # of the runners; runner-seconds that may come at once
        self._crowded = False
        self._shift_s = 0.0
        self._spare_s = self._spare_from_above_s = 0.0  # of the request that was judged last

    # ---- questions ---------------------------------------------------------------------------------------------------

    def judge(self, request: Request, now: float) -> InferenceError | None:
        """Why this request is not taken, or None."""
        policy, rows = self.policy, request.rows
        if self.waiting_rows + rows > policy.rows_max:
            if rows > policy.rows_max:
                return TooLarge("request", f"{rows} rows", f"at most {policy.rows_max} rows, the queue's limit")
            retry_s = self._retry_s((self.waiting_rows + rows - policy.rows_max) * self._row_s)
            return QueueFull(policy.model, "rows", self.waiting_rows, policy.rows_max, retry_s)
        if self.waiting_bytes + request.byte_count > policy.bytes_max:
            limit = policy.bytes_max
            if request.byte_count > limit:
                return TooLarge("request", f"{request.byte_count} bytes", f"at most {limit}, the queue's limit")
            retry_s = self._retry_s(self.waiting_rows * self._row_s)
            return QueueFull(policy.model, "bytes", self.waiting_bytes, limit, retry_s)
        if request.deadline_s <= now:
            return DeadlinePassed(policy.model, now - request.arrived_s)
        return self.judge_time(request.priority, rows, request.deadline_s, now) if self._row_s else None

    def judge_time(self, priority: Priority, rows: int, deadline_s: float, now: float) -> InferenceError | None:
        """Why a request of `rows` cannot be done in time, or None. Says it before the request is read, too."""
        row_s = self._row_s
        if not row_s:
            return None
        if deadline_s <= now:
            return self._unreachable(0.0, self.cost.upper(rows), 0.0)
        ends_s, waiting = self._ends_s, self.waiting_rows
        if not waiting and len(ends_s) < self._runners:
            return self._judge_idle(rows, deadline_s, now)
        busy_s = 0.0
        for end_s in ends_s.values():
            busy_s += abs(end_s - now)  # who is late is expected to be late by as much again
        start_s = now + busy_s / self._runners
        wait_s = start_s - now + waiting * row_s
        if wait_s * 1000.0 > self.policy.ms_max:
            retry_s = self._retry_s(wait_s - self.policy.ms_max / 1000.0)
            return QueueFull(self.policy.model, "ms", ceil(wait_s * 1000.0), self.policy.ms_max, retry_s)
        committed, margin_s = self._committed, self.margin.seconds
        all_s, earliest_s = start_s + (waiting + rows) * row_s + self._tail_s, committed.earliest_s
        done_s = all_s + min(margin_s, PART_MAX * (deadline_s - now))
        # Whether somebody before is made late does not hang on the time that this one has.
        if self._crowded or done_s > deadline_s or all_s + margin_s > earliest_s:
            return self._judge_in_order(priority, rows, deadline_s, now, start_s)
        if committed.drawn:
            self._shift_s = committed.shift_s(start_s)
            self._spare_s = self._spare_from_above_s = deadline_s - done_s
        return None

    def _judge_idle(self, rows: int, deadline_s: float, now: float) -> InferenceError | None:
        """It runs at once, in as many batches as it takes."""
        uncut, idle, upper = self._rows_uncut, self._runners - len(self._ends_s), self.cost.upper
        if rows <= uncut:
            needed_s = upper(rows)
        else:
            full, rest = divmod(ceil(rows / idle), uncut)
            needed_s = full * upper(uncut) + (upper(rest) if rest else 0.0)
            needed_s = needed_s / (1.0 - self._background_share) + self._background_s / self._runners
        needed_s += self.margin.overhead_s
        if now + needed_s <= deadline_s:
            return None
        return self._unreachable(deadline_s - now, needed_s, 0.0)

    def _judge_in_order(
        self, band: Priority, rows: int, deadline_s: float, now: float, start_s: float
    ) -> InferenceError | None:
        committed, row_s, tail_s, margin_s = self._committed, self._row_s, self._tail_s, self.margin.seconds
        if committed.outdated(now):
            keep = self._demand.settle(now, row_s)
            self._crowded = self._demand.asked_rate * row_s > CROWDED_SHARE
            committed.draw(now, start_s, row_s, tail_s, margin_s, keep, self._patience_s)
        shift_s = self._shift_s = committed.shift_s(start_s)
        ahead, own_s, below_s = committed.look(band, deadline_s, shift_s, cut=rows > self._rows_uncut)
        left_s, work_s = deadline_s - now, rows * row_s
        margin_s = min(margin_s, PART_MAX * left_s)
        done_s = start_s + ahead * row_s + work_s + tail_s + margin_s
        rate, variance = self._demand.keep[band]
        kept_s = rate * left_s + sqrt(variance * left_s)
        self._spare_s, self._spare_from_above_s = deadline_s - done_s - kept_s, deadline_s - done_s
        if self._spare_s >= 0.0 and own_s >= work_s:
            if below_s >= work_s:
                return None
            self._demand.kept_out(band, rows)
        else:
            self._demand.turned_away(rows)
        needed_s = done_s + kept_s - now
        others = needed_s <= left_s
        backlog_s = start_s - now + (self.waiting_rows if others else ahead) * row_s
        return self._unreachable(left_s, needed_s, backlog_s, others=others)

    def _unreachable(self, left_s: float, needed_s: float, backlog_s: float, *, others: bool = False) -> InferenceError:
        return DeadlineUnreachable(
            self.policy.model, max(0.0, left_s), needed_s, self._retry_s(backlog_s), others=others
        )

    def _retry_s(self, backlog_s: float) -> float:
        """Until the backlog is worked off, in whole milliseconds."""
        if not self._row_s:
            return RETRY_AFTER_S
        return min(max(ceil(backlog_s * 1000.0) / 1000.0, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)

    # ---- events ------------------------------------------------------------------------------------------------------

    def accepted(self, request: Request) -> None:
        """All rows of this request wait now; it is the one that was judged last."""
        rows, band = request.rows, request.priority
        self.waiting_rows += rows
        self.waiting_bytes += request.byte_count
        self._demand.taken(band, rows)
        committed = self._committed
        committed.add(request, self._rows_uncut)
        if committed.drawn:
            committed.charge(band, rows, self._shift_s, self._spare_s, self._spare_from_above_s)

    def left_queue(self, request: Request, rows: int, *, last: bool) -> None:
        """`rows` of it wait no more: dispatched, cancelled or expired. `last`: none of it waits any more."""
        self.waiting_rows -= rows
        if last:
            self.waiting_bytes -= request.byte_count
        self._committed.remove(request, rows, last=last)

    def answered(self, request: Request, now: float) -> None:
        """An accepted request was answered now, or has expired."""
        due_s = request.deadline_s
        self.margin.answered(due_s - now, due_s - request.arrived_s)

    def observe_overhead(self, seconds: float) -> None:
        """The server needs so long beside queue and runs, as things stand now: to read others, to write answers."""
        self.margin.observe_overhead(seconds)

    def batch_started(self, runner: int, rows: int, now: float) -> None:
        """A runner began a batch; its rows have left the queue."""
        self._started_s[runner] = now
        self._ends_s[runner] = now + self.cost.predict(rows)
        if self.waiting_rows + rows >= self._rows_full:
            self._fills += 1
            self._fill += max(FILL_STEP, 1.0 / self._fills) * (rows - self._fill)
        if self.waiting_rows:
            self._committed.started(rows)

    def batch_finished(self, runner: int, rows: int, run_s: float, now: float) -> None:
        """A runner has finished a batch that took it `run_s`.

        How long it then waited for a busy loop is none of the model's cost: that is over when the load is.
        """
        self._started_s.pop(runner, None)
        self._ends_s.pop(runner, None)
        self.cost.observe(rows, run_s)
        self._price()

    def batch_lost(self, runner: int, rows: int, now: float) -> None:
        """A runner is gone, and the batch that it ran with it."""
        self._started_s.pop(runner, None)
        self._ends_s.pop(runner, None)

    def background_started(self, runner: int, rows: int, now: float) -> None:
        """A runner began a batch of background rows; `batch_finished` and `batch_lost` end it like any other."""
        self._started_s[runner] = now
        self._ends_s[runner] = now + self.cost.predict(rows)

    def background_changed(self, share: float, ahead_s: float) -> None:
        """Background rows may take `share` of the runners, and at once `ahead_s` of one; 0 and 0: there are none."""
        self._background_share, self._background_s = share, ahead_s
        self._price()

    def runners_changed(self, runners: int) -> None:
        """How many runners the version has."""
        self._runners = max(1, runners)
        self._price()

    def batches_changed(self, rows_max: int | None, patience_s: float) -> None:
        """The knee of the queue (None: every request runs alone), and when a request may overtake others."""
        self._rows_full, self._rows_uncut = rows_max or 1, rows_max or ROWS_UNCUT
        self._fill, self._fills = float(self._rows_full), 1  # one full batch is assumed
        self._patience_s = patience_s
        self._price()

    def change_policy(self, policy: AdmissionPolicy) -> None:
        """New limits; what has been accepted stays accepted."""
        self.policy = policy

    def seed(self, timings_s: dict[int, float]) -> None:
        """Seconds of a batch by its rows, from before the first run."""
        self.cost.seed(timings_s)
        self._price()

    def _price(self) -> None:
        """What a waiting row costs those behind it, now that a run, the runners or the knee have changed."""
        if not self.cost.known:
            return
        fill, runners = self._fill, self._runners
        batch_s = self.cost.a_s * fill + self.cost.b_s
        self._row_s = DRIFT * batch_s / fill / runners / (1.0 - self._background_share)
        # A batch that is not full costs as much as a full one, and the last runner starts when the first is free.
        self._tail_s = (((fill - 1.0) / fill + runners - 1) * batch_s + self._background_s) / runners
        self.margin.set_batch(self.cost.upper(ceil(fill)))
