"""Live callers are promised what is true while a job's rows take their share of the runners."""

from __future__ import annotations

import pytest

from inference.decisions.admission import DRIFT, Admission
from inference.errors import DeadlineUnreachable
from tests.inference.decisions.test_admission import CRITICAL, RUN_S, refusal_of, steady, take
from tests.inference.requests import request


def test_a_background_batch_that_runs_is_waited_for_like_any_other() -> None:
    admission = steady()
    admission.background_started(0, 1, now=0.0)
    assert isinstance(refusal_of(admission, timeout_s=1.5 * RUN_S), DeadlineUnreachable)
    admission.batch_finished(0, 1, RUN_S, RUN_S)
    take(admission, RUN_S, timeout_s=1.5 * RUN_S)


def test_a_background_batch_that_was_lost_is_waited_for_no_more() -> None:
    admission = steady()
    admission.background_started(0, 1, now=0.0)
    admission.batch_lost(0, 1, 0.0)
    take(admission, timeout_s=1.5 * RUN_S)


@pytest.mark.parametrize("runners", [1, 3])
def test_their_share_makes_waiting_rows_dearer_and_what_may_come_at_once_is_ahead(runners: int) -> None:
    admission = steady(runners=runners)
    for runner in range(runners):
        admission.batch_started(runner, 1, now=0.0)
    for _ in range(10):
        take(admission, timeout_s=1e6, priority=CRITICAL)  # ahead of whoever is judged
    plain_s = least_timeout_s(admission)
    admission.background_changed(0.2, 0.006)
    shared_s = least_timeout_s(admission)
    admission.background_changed(0.0, 0.0)
    rows_s = 11 * DRIFT * RUN_S / runners
    tail_s = 0.006 / runners
    assert shared_s - plain_s == pytest.approx(rows_s * 0.25 + tail_s, rel=0.01)
    assert least_timeout_s(admission) == pytest.approx(plain_s)


def least_timeout_s(admission: Admission) -> float:
    """With how much time a request is just taken."""
    refused_s, taken_s = 0.0, 10.0
    for _ in range(40):
        middle_s = (refused_s + taken_s) / 2
        if admission.judge(request(timeout_s=middle_s), 0.0) is None:
            taken_s = middle_s
        else:
            refused_s = middle_s
    return taken_s


def test_a_request_of_several_batches_on_an_idle_server_may_be_interrupted_by_them() -> None:
    admission = steady()
    needed = 10 * admission.cost.upper(1)
    take_and_leave(admission, 10, needed * 1.01)
    admission.background_changed(0.2, 0.006)
    assert isinstance(refusal_of(admission, rows=10, timeout_s=needed * 1.01), DeadlineUnreachable)
    take_and_leave(admission, 10, (needed / 0.8 + 0.006) * 1.01)
    take_and_leave(admission, 1, admission.cost.upper(1) * 1.01)  # a single batch starts at once


def take_and_leave(admission: Admission, rows: int, timeout_s: float) -> None:
    made = take(admission, rows=rows, timeout_s=timeout_s)
    admission.left_queue(made, rows, last=True)
