"""Whether a request is taken. Pure: `now` in seconds, nothing is changed by asking.

Bounds: rows and bytes that wait, and the time that what waits will take.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.errors import DeadlinePassed, InferenceError, QueueFull, TooLarge
from inference.request import Request

RETRY_AFTER_S = 1.0  # told to a refused caller


@dataclass(slots=True, frozen=True)
class AdmissionPolicy:
    """Bounds of what may wait for one version."""

    model: str
    rows_max: int
    bytes_max: int


class Admission:
    """The bounds of one version's queue. The scheduler asks `judge`, then tells what it did."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self.policy = policy
        self.waiting_rows = 0
        self.waiting_bytes = 0

    def judge(self, request: Request, now: float) -> InferenceError | None:
        """Why this request is not taken, or None."""
        policy = self.policy
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

    def accepted(self, request: Request) -> None:
        """All rows of this request wait now."""
        self.waiting_rows += request.rows
        self.waiting_bytes += request.byte_count

    def left_queue(self, request: Request, rows: int, *, last: bool) -> None:
        """`rows` of it wait no more: dispatched, cancelled or expired. `last`: none of it waits any more."""
        self.waiting_rows -= rows
        if last:
            self.waiting_bytes -= request.byte_count

    def batch_started(self, runner: int, rows: int, now: float) -> None:
        """A runner began a batch."""

    def batch_finished(self, runner: int, rows: int, run_s: float, now: float) -> None:
        """A runner has finished a batch that took it `run_s`."""

    def batch_lost(self, runner: int, rows: int, now: float) -> None:
        """A runner is gone, and the batch that it ran with it."""

    def runners_changed(self, runners: int) -> None:
        """How many runners the version has."""

    def batches_changed(self, rows_max: int | None, patience_s: float) -> None:
        """The knee of the queue (None: every request runs alone), and when a request may overtake others."""
