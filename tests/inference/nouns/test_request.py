"""Requests, their slices, and the batch that they share."""

from __future__ import annotations

import numpy as np
import pytest

from inference.errors import RunFailed
from inference.model import ModelKey
from inference.request import LIVE_PRIORITIES, Batch, Prediction, Priority, Request, Slice, Timings

KEY = ModelKey("lstm", 1)


def request(rows: int) -> Request:
    """A request of `rows` rows."""
    inputs = {"rows": np.zeros((rows, 32, 3), np.float32)}
    return Request("r", KEY, inputs, rows, rows * 384, ("FP32",), deadline_s=1.0, arrived_s=0.0)


def test_live_bands_are_all_but_the_background() -> None:
    assert tuple(Priority)[:-1] == LIVE_PRIORITIES
    assert max(Priority) is Priority.BACKGROUND


def test_a_batch_counts_the_rows_of_its_slices() -> None:
    long, short = request(40), request(1)
    batch = Batch((Slice(long, 8, 40), Slice(short, 0, 1)))
    assert [part.rows for part in batch.slices] == [32, 1]
    assert batch.rows == 33


def test_two_requests_with_equal_inputs_are_two_requests() -> None:
    assert request(1) != request(1)


def test_what_happened_is_not_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Timings(0.0, 0.1, 1).run_s = 0.2  # pyrefly: ignore[read-only] - the refusal is what is tested


def test_an_answer_is_a_prediction_or_the_error_that_took_its_place() -> None:
    good = Prediction("r", KEY, {"p": np.zeros((1, 1), np.float32)}, Timings(0.0, 0.001, 1))
    assert good.non_finite == ()
    assert str(RunFailed("lstm/1", "out of memory")) == "Model lstm/1 failed to run: out of memory"
