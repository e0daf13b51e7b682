"""The size of batch that pays: measured in short steps, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from inference.errors import ModelNotReady
from inference.model import ModelLimits, Signature
from inference.runtime.function_session import FunctionSession
from inference.runtime.knee import BATCH_COST_S, STEP_S, KneeMeasurement, tiled
from inference.tensor import Tensors, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
INPUTS: Tensors = {"x": np.array([[1], [2], [3]], np.float32)}
LIMITS = ModelLimits()


def measured(time_s: Callable[[int], float], limits: ModelLimits = LIMITS) -> tuple[int, list[int]]:
    """The knee of a model whose call of n rows takes `time_s(n)`, and the steps that were asked for."""
    measurement = KneeMeasurement(FunctionSession(SIGNATURE, lambda inputs: inputs), INPUTS, limits)
    steps = []
    while (rows := measurement.next_step()) is not None:
        steps.append(rows)
        measurement.record(rows, time_s(rows))
    return measurement.result(), steps


def test_a_model_that_gains_nothing_from_batches_runs_rows_one_by_one() -> None:
    assert measured(lambda rows: 0.001 * rows)[0] == 1


def test_the_knee_is_the_smallest_batch_that_is_about_as_good_as_the_best() -> None:
    """A batch costs 100 us, half of it in the engine, and 10 us a row: 128 rows reach 90 % of the best, 64 do not."""
    assert measured(lambda rows: 100e-6 - BATCH_COST_S + 10e-6 * rows)[0] == 128


def test_a_batch_that_is_too_large_for_the_processor_s_cache_is_not_taken() -> None:
    assert measured(lambda rows: 1e-6 * rows * (1 if rows <= 32 else 3))[0] == 32
    assert measured(lambda rows: 50e-6 + 5e-6 * rows * (1 if rows <= 32 else 3))[0] == 32


def test_each_size_is_timed_in_three_rounds_and_its_best_time_counts() -> None:
    times = iter([9.0, *[0.001] * 100])
    measurement = KneeMeasurement(
        FunctionSession(SIGNATURE, lambda inputs: inputs), INPUTS, ModelLimits(batch_rows_max=2)
    )
    steps = []
    while (rows := measurement.next_step()) is not None:
        steps.append(rows)
        measurement.record(rows, next(times))
    assert steps == [1, 1, 2, 1, 2]  # the slow first call stopped the first round
    assert measurement.result() == 2


def test_no_step_is_asked_for_that_might_take_much_longer_than_its_limit() -> None:
    row_s = 0.004
    _, steps = measured(lambda rows: row_s * rows)
    assert max(steps) * row_s <= STEP_S
    assert max(steps) == 8


def test_a_row_that_takes_longer_than_a_step_is_timed_all_the_same() -> None:
    knee, steps = measured(lambda rows: 1.0 * rows)
    assert (knee, set(steps)) == (1, {1})


@pytest.mark.parametrize(("limit", "largest"), [(1, 1), (5, 4), (1024, 256)])
def test_batches_stay_below_the_package_s_limit_and_256_rows(limit: int, largest: int) -> None:
    knee, steps = measured(lambda rows: 0.001, ModelLimits(batch_rows_max=limit))
    assert (knee, max(steps)) == (largest, largest)


def test_times_that_are_known_already_count() -> None:
    session = FunctionSession(SIGNATURE, lambda inputs: inputs)
    measurement = KneeMeasurement(session, INPUTS, LIMITS, known_s={1: 0.040, 8: 0.050, 4096: 0.001})
    assert measurement.result() == 8


def test_measuring_runs_batches_of_that_many_rows() -> None:
    seen: list[Tensors] = []
    session = FunctionSession(SIGNATURE, lambda inputs: seen.append(inputs) or inputs)
    run_s = KneeMeasurement(session, INPUTS, LIMITS).measure(8)
    assert 0 < run_s < float("inf")
    assert seen[0]["x"].ravel().tolist() == [1, 2, 3, 1, 2, 3, 1, 2]


def test_a_model_that_is_away_for_a_moment_is_not_taken_for_one_that_fails() -> None:
    away = [True, False, False]

    def run(inputs: Tensors) -> Tensors:
        if away.pop(0):
            raise ModelNotReady("tiny/1", "restarting")
        return {"y": inputs["x"]}

    measurement = KneeMeasurement(FunctionSession(SIGNATURE, run), INPUTS, LIMITS)
    measurement.record(8, 0.001)
    assert measurement.measure(8) == 0.001
    assert measurement.result() == 8


def test_a_batch_that_fails_ends_the_growth_and_is_never_the_knee(caplog: pytest.LogCaptureFixture) -> None:
    def run(inputs: Tensors) -> Tensors:
        if len(inputs["x"]) > 4:
            raise MemoryError("no room")
        return inputs

    measurement = KneeMeasurement(FunctionSession(SIGNATURE, run), INPUTS, LIMITS)
    steps = []
    while (rows := measurement.next_step()) is not None:
        steps.append(rows)
        measurement.measure(rows)
    assert max(steps) == 8
    assert measurement.result() <= 4
    assert "a batch of 8 rows fails" in caplog.text


def test_nothing_measured_means_one_row() -> None:
    assert KneeMeasurement(FunctionSession(SIGNATURE, lambda inputs: inputs), INPUTS, LIMITS).result() == 1


def test_rows_are_repeated_in_turn() -> None:
    assert tiled(INPUTS, 2)["x"].ravel().tolist() == [1, 2]
    assert tiled(INPUTS, 4)["x"].ravel().tolist() == [1, 2, 3, 1]
