"""The bounds of a queue: what is taken and what is refused, and why."""

from __future__ import annotations

from inference.decisions.admission import Admission, AdmissionPolicy
from tests.inference.requests import request


def test_what_waits_is_bounded_by_rows_and_given_back() -> None:
    admission = Admission(AdmissionPolicy("adder/1", rows_max=4, bytes_max=1000))
    first = request(rows=3)
    assert admission.judge(first, 0.0) is None
    admission.accepted(first)
    refusal = admission.judge(request(rows=2), 0.0)
    assert refusal is not None
    assert refusal.reason == "queue_full"
    admission.left_queue(first, 3, last=True)
    assert admission.judge(request(rows=2), 0.0) is None
    assert (admission.waiting_rows, admission.waiting_bytes) == (0, 0)
