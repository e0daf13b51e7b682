"""The plainest admission: rows and bytes that wait are bounded, nothing else counts and nothing is learned.

For tests of those who drive an admission: deadlines may pass, and whatever they tell is counted as it is told.
"""

from __future__ import annotations

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.cost_model import CostModel
from inference.errors import DeadlinePassed, InferenceError, QueueFull, TooLarge
from inference.request import Request


class BoundsOnly(Admission):
    """Shares the interface with its base, and none of its code."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self.policy = policy
        self.cost = CostModel()
        self.waiting_rows = 0
        self.waiting_bytes = 0

    def judge(self, request: Request, now: float) -> InferenceError | None:
        model, rows_max, bytes_max = self.policy.model, self.policy.rows_max, self.policy.bytes_max
        if request.rows > rows_max or request.byte_count > bytes_max:
            return TooLarge("request", f"{request.rows} rows", f"at most {rows_max}")
        if self.waiting_rows + request.rows > rows_max:
            return QueueFull(model, "rows", self.waiting_rows, rows_max, 1.0)
        if self.waiting_bytes + request.byte_count > bytes_max:
            return QueueFull(model, "bytes", self.waiting_bytes, bytes_max, 1.0)
        return DeadlinePassed(model, now - request.arrived_s) if request.deadline_s <= now else None

    def accepted(self, request: Request) -> None:
        self.waiting_rows += request.rows
        self.waiting_bytes += request.byte_count

    def left_queue(self, request: Request, rows: int, *, last: bool) -> None:
        self.waiting_rows -= rows
        self.waiting_bytes -= request.byte_count if last else 0

    def batch_started(self, runner: int, rows: int, now: float) -> None:
        pass

    def batch_finished(self, runner: int, rows: int, run_s: float, now: float) -> None:
        pass

    def batch_lost(self, runner: int, rows: int, now: float) -> None:
        pass

    def background_started(self, runner: int, rows: int, now: float) -> None:
        pass

    def background_changed(self, share: float, ahead_s: float) -> None:
        pass

    def runners_changed(self, runners: int) -> None:
        pass

    def batches_changed(self, rows_max: int | None, patience_s: float) -> None:
        pass
