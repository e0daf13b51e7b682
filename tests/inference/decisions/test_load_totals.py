"""What a shell reports of a version, and what scaling reads of it."""

from __future__ import annotations

import pytest

from inference.decisions.load_totals import LoadTotals
from inference.decisions.runner_load import RunnerBounds
from inference.errors import DeadlinePassed, DeadlineUnreachable, InferenceError, QueueFull, TooLarge
from inference.request import Batch, Slice
from tests.inference.requests import request

BOUNDS = RunnerBounds(1, 4, 2)


def test_a_short_life_in_totals():
    totals = LoadTotals(BOUNDS)
    first, second = request(rows=2, now=1.0), request(rows=5, now=1.5)
    totals.accepted(first)
    totals.accepted(second)
    totals.batch_started(0, Batch((Slice(first, 0, 2), Slice(second, 0, 2))), 2.0)
    running = totals.load(2, 3, 1.5, 2.5)
    assert (running.bounds, running.runners, running.waiting_rows) == (BOUNDS, 2, 3)
    assert (running.oldest_wait_s, running.arrived_rows, running.refused_rows) == (1.0, 7, 0)
    assert (running.dispatched, running.waited_s) == (2, 1.5)
    assert (running.finished_rows, running.batches, running.busy_s) == (0, 0, 0.5)
    totals.batch_finished(0, 4, 3.0)
    totals.batch_started(0, Batch((Slice(second, 2, 5),)), 3.0)
    totals.batch_finished(0, 3, 4.5)
    ended = totals.load(2, 0, None, 10.0, 0.01)
    assert (ended.dispatched, ended.waited_s) == (2, 1.5)  # a wait ends with the first slice
    assert (ended.finished_rows, ended.batches, ended.busy_s) == (7, 2, 2.5)
    assert (ended.oldest_wait_s, ended.row_s) == (0.0, 0.01)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (QueueFull("adder/1", "rows", 9, 9, 1.0), True),
        (DeadlineUnreachable("adder/1", 0.1, 0.2, 1.0), True),
        (TooLarge("request", "9 rows", "at most 4"), False),
        (DeadlinePassed("adder/1", 0.1), False),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
def test_only_what_more_runners_might_have_taken_counts_as_load(error: InferenceError, counts: bool):
    totals = LoadTotals(BOUNDS)
    totals.refused(request(rows=3), error)
    load = totals.load(1, 0, None, 1.0)
    assert load.arrived_rows == load.refused_rows == (3 if counts else 0)


def test_the_time_of_a_lost_runner_was_busy_and_its_rows_never_finish():
    totals = LoadTotals(BOUNDS)
    asked = request(rows=2)
    totals.batch_started(7, Batch((Slice(asked, 0, 2),)), 1.0)
    totals.runner_lost(7, 3.0)
    totals.runner_lost(8, 3.0)  # one that idled
    load = totals.load(0, 0, None, 9.0)
    assert (load.busy_s, load.finished_rows, load.batches) == (2.0, 0, 0)
