"""The totals of one version that scaling reads, kept up by whoever serves it. Pure: `now` in seconds.

Cheap enough for every request: an addition or two each, and one pass over a batch when it starts.
"""

from __future__ import annotations

from inference.decisions.runner_load import Load, RunnerBounds
from inference.errors import DeadlineUnreachable, InferenceError, QueueFull
from inference.request import Batch, Request


class LoadTotals:
    """What has come to one version and what its runners have done, since it was opened."""

    def __init__(self, bounds: RunnerBounds) -> None:
        self.bounds = bounds
        self._arrived_rows = 0
        self._refused_rows = 0
        self._dispatched = 0
        self._waited_s = 0.0
        self._finished_rows = 0
        self._batches = 0
        self._busy_s = 0.0
        self._started_s: dict[int, float] = {}

    def accepted(self, request: Request) -> None:
        """A request has been taken."""
        self._arrived_rows += request.rows

    def refused(self, request: Request, error: InferenceError) -> None:
        """A request has been refused. Only what more runners might have taken counts as load."""
        if isinstance(error, (QueueFull, DeadlineUnreachable)):
            self._arrived_rows += request.rows
            self._refused_rows += request.rows

    def refused_unread(self, error: InferenceError) -> None:
        """A request has been refused before its rows were known; it counts as one row."""
        if isinstance(error, (QueueFull, DeadlineUnreachable)):
            self._arrived_rows += 1
            self._refused_rows += 1

    def batch_started(self, runner: int, batch: Batch, now: float) -> None:
        """A runner took up a batch. A request's wait ends with its first slice."""
        waits = [now - part.request.arrived_s for part in batch.slices if not part.start]
        self._dispatched += len(waits)
        self._waited_s += sum(waits)
        self._started_s[runner] = now

    def batch_finished(self, runner: int, rows: int, now: float) -> None:
        """A runner has finished a batch, well or not."""
        self._busy_s += now - self._started_s.pop(runner)
        self._finished_rows += rows
        self._batches += 1

    def runner_lost(self, runner: int, now: float) -> None:
        """A runner is gone, with what it ran."""
        started_s = self._started_s.pop(runner, None)
        if started_s is not None:
            self._busy_s += now - started_s

    def load(
        self, runners: int, waiting_rows: int, waiting_since_s: float | None, now: float, row_s: float = 0.0
    ) -> Load:
        """The reading for scaling; the arguments are what the scheduler (and a cost model, `row_s`) say now."""
        return Load(
            bounds=self.bounds,
            runners=runners,
            waiting_rows=waiting_rows,
            oldest_wait_s=0.0 if waiting_since_s is None else now - waiting_since_s,
            row_s=row_s,
            arrived_rows=self._arrived_rows,
            refused_rows=self._refused_rows,
            dispatched=self._dispatched,
            waited_s=self._waited_s,
            finished_rows=self._finished_rows,
            batches=self._batches,
            busy_s=self._busy_s + sum(now - started_s for started_s in self._started_s.values()),
        )
