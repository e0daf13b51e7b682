"""The background rows of one version: who waits, in the order in which they came, and what runs. Pure: it decides.

A request is a whole batch of a job's rows. Its rows run in slices, each alone in its batch: they share none with live
rows and none with another request. There are no deadlines and no priorities here; jobs are put in order before.
"""

from __future__ import annotations

from collections import deque

import msgspec

from inference.decisions.admission import Admission
from inference.decisions.background_share import BackgroundPolicy, BackgroundShare, rows_of_a_batch
from inference.decisions.band import Entry
from inference.errors import InferenceError, QueueFull
from inference.request import Batch, Request, Slice

REQUESTS_MAX = 2  # of a version: one that runs, one that is there when the runner falls idle
RETRY_AFTER_S = 0.01


class _Running(msgspec.Struct, frozen=True):
    part: Slice
    charged_s: float
    started_s: float


class BackgroundBand:
    """Background requests that have not ended. `rows_max`: rows of a full live batch, None if requests run alone."""

    def __init__(self, admission: Admission, policy: BackgroundPolicy, rows_max: int | None) -> None:
        self.rows = 0  # that wait
        self.rows_run, self.busy_s = 0, 0.0  # in all: rows that have run, seconds of runners that they took
        self._admission = admission
        self._policy = policy
        self._rows_max = rows_max
        self._share = BackgroundShare(policy.share_min)
        self._waiting: deque[Entry] = deque()
        self._live: dict[Request, Entry] = {}
        self._running: dict[int, _Running] = {}

    @property
    def requests(self) -> int:
        """Requests that have not ended."""
        return len(self._live)

    # ---- events ------------------------------------------------------------------------------------------------------

    def change_policy(self, policy: BackgroundPolicy, rows_max: int | None, runners: int) -> None:
        """New limits, for batches that start from now on."""
        self._policy, self._rows_max = policy, rows_max
        self._share.share_min = policy.share_min
        if self._live:
            self._tell_admission(runners)

    def submit(self, request: Request, runners: int, now: float) -> InferenceError | None:
        """All rows of this request wait from now on; or why they may not."""
        if len(self._live) >= REQUESTS_MAX:
            return QueueFull(str(request.model), "background requests", len(self._live), REQUESTS_MAX, RETRY_AFTER_S)
        entry = self._live[request] = Entry(request, request.deadline_s, 0, now)
        self._waiting.append(entry)
        self.rows += request.rows
        self._tell_admission(runners)
        return None

    def cancel(self, request: Request) -> bool:
        """Nothing of it that has not started ever will. False if it had ended already, or is none of these."""
        entry = self._live.pop(request, None)
        if entry is None:
            return False
        if entry.waiting_rows:
            self._waiting.remove(entry)
            self.rows -= entry.waiting_rows
        self._note_end()
        return True

    def may_go_first(self, runners: int, now: float) -> bool:
        """Whether the next batch may start now though live rows wait; rows wait here too."""
        return self._share.may_go_first(self._predict(self._next_rows()), self._full_s, runners, now)

    def start(self, runner: int, now: float) -> Batch:
        """The next batch runs now."""
        entry, rows = self._waiting[0], self._next_rows()
        start = entry.next_row
        stop = entry.next_row = start + rows
        entry.running_rows += rows
        self.rows -= rows
        if not entry.waiting_rows:
            self._waiting.popleft()
        part = Slice(entry.request, start, stop)
        running = self._running[runner] = _Running(part, self._predict(rows), now)
        self._share.took(running.charged_s)
        self._admission.background_started(runner, rows, now)
        return Batch((part,))

    def finished(self, runner: int, run_s: float | None, now: float) -> None:
        """A runner is back: with a batch of these, which took `run_s`, or from something else."""
        ran = self._running.pop(runner, None)
        if ran is None:
            return
        busy_s = self._charge(ran, now)
        self.rows_run += ran.part.rows
        self._admission.batch_finished(runner, ran.part.rows, busy_s if run_s is None else run_s, now)
        entry = self._live.get(ran.part.request)
        if entry is None:
            return  # cancelled while it ran
        entry.running_rows -= ran.part.rows
        if not entry.running_rows and not entry.waiting_rows:
            del self._live[ran.part.request]
            self._note_end()

    def lost(self, runner: int, now: float) -> list[Slice]:
        """A runner is gone. Returns what it was running of these, if somebody still waits for it."""
        ran = self._running.pop(runner, None)
        if ran is None:
            return []
        self._charge(ran, now)
        self._admission.batch_lost(runner, ran.part.rows, now)
        return [ran.part] if ran.part.request in self._live else []

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _predict(self, rows: int) -> float:
        return self._admission.cost.predict(rows)

    @property
    def _full_s(self) -> float:
        return self._predict(self._rows_max or 1)

    def _next_rows(self) -> int:
        waiting = self._waiting[0].waiting_rows
        if self._rows_max is None:
            return waiting
        return rows_of_a_batch(self._admission.cost, waiting, self._rows_max, self._policy.batch_s_max)

    def _charge(self, ran: _Running, now: float) -> float:
        """Put down what a batch took, in place of what was predicted; its seconds."""
        busy_s = now - ran.started_s
        self._share.took(busy_s - ran.charged_s)
        self.busy_s += busy_s
        return busy_s

    def _note_end(self) -> None:
        if not self._live:
            self._admission.background_changed(0.0, 0.0)

    def _tell_admission(self, runners: int) -> None:
        """What background rows may take of the runners from now on."""
        batch_s = max(self._policy.batch_s_max, self._predict(1))
        ahead_s = self._share.credit_max_s(batch_s, self._full_s, runners)
        self._admission.background_changed(self._share.share_min, ahead_s)
