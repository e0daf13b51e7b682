"""Blocks through a model: every good row has its own answer, and rows that spoil a batch fail alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decisions.batch_search import BatchPolicy, BatchSearch
from inference.errors import ModelNotReady, RunCrashed, RunFailed
from inference.job_runner.batch_memory import BatchMemory
from inference.job_runner.predict_stage import PredictStage
from inference.model import Signature
from inference.pipeline.bulk import RowsDiffer
from inference.runtime.function_session import FunctionSession
from inference.runtime.session import RunStopped
from inference.tensor import Array, Tensors, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", "FP32", ("batch", 1)),))
ALONE = Signature((TensorSpec("x", "FP32", (1, 2)),), (TensorSpec("y", "FP32", (1, None)),))
CANARY = {"x": np.zeros((1, 2), np.float32)}
NEVER = threading.Event()


@dataclass
class Rows:
    """Prepared rows that are places in an array."""

    x: Array
    good: Array
    apart: bool = False
    faults: tuple[()] = ()
    real_rows: None = None
    input_quality: None = None

    def tensors(self, start: int, stop: int) -> Tensors:
        if self.apart and stop - start > 1:
            raise RowsDiffer
        return {"x": self.x[self.good[start:stop]]}


def rows_of(values: list[float], good: list[int] | None = None, *, apart: bool = False) -> Rows:
    x = np.array([[value, 1] for value in values], np.float32).reshape(-1, 2)
    return Rows(x, np.arange(len(x)) if good is None else np.array(good, np.int64), apart)


@dataclass
class Model:
    """Doubles `x`; a row of 13 makes the whole run fail, one of 7 answers NaN; remembers what it was given."""

    calls: list[int] = field(default_factory=list)
    hook: Callable[[Array], None] = lambda x: None

    def __call__(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        self.calls.append(len(x))
        self.hook(x)
        if (x[:, 0] == 13).any():
            raise ValueError("row of 13")
        y = 2 * x[:, :1]
        y[x[:, 0] == 7] = np.nan
        return {"y": y}


def stage_of(model: Callable[[Tensors], Tensors], size: int | BatchSearch = 4, **more: object) -> PredictStage:
    return PredictStage("m/1", FunctionSession(SIGNATURE, model), size, CANARY, batched=True, **more)  # type: ignore[arg-type] - options of a test


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 13.0, 7.0]), max_size=40), st.integers(1, 9), st.data())
def test_each_row_has_its_own_answer_and_only_bad_ones_fail(
    values: list[float], size: int, data: st.DataObject
) -> None:
    good = sorted(data.draw(st.sets(st.sampled_from(range(len(values)))))) if values else []
    predicted = stage_of(Model(), size).run(rows_of(values, good), NEVER)
    failed = {fault.row: fault.reason for fault in predicted.failed}
    reasons = {13.0: "inputs_rejected", 7.0: "non_finite_output"}
    assert failed == {row: reasons[values[row]] for row in good if values[row] in reasons}
    assert [fault.row for fault in predicted.failed] == sorted(failed)
    assert predicted.outputs["y"].shape == (len(good), 1)
    for place, row in enumerate(good):
        if row not in failed:
            assert predicted.outputs["y"][place, 0] == 2 * values[row]


def test_one_bad_row_costs_two_runs_a_halving_and_the_canary() -> None:
    model = Model()
    values = [1.0] * 64
    values[37] = 13.0
    predicted = stage_of(model, 64).run(rows_of(values), NEVER)
    assert [fault.row for fault in predicted.failed] == [37]
    assert "Model m/1 cannot run these inputs: row of 13" in predicted.failed[0].sentence
    assert len(model.calls) == 1 + 1 + 2 * 6


def test_batches_of_a_fixed_size_are_the_same_each_time() -> None:
    model = Model()
    stage = stage_of(model, 5)
    for _ in range(2):
        stage.run(rows_of([1.0] * 12), NEVER)
    assert model.calls == [5, 5, 2] * 2


def test_a_model_whose_canary_fails_too_is_to_blame_and_no_row() -> None:
    def broken(inputs: Tensors) -> Tensors:
        raise ValueError("no more weights")

    with pytest.raises(RunFailed, match="no more weights"):
        stage_of(broken).run(rows_of([1.0] * 8), NEVER)


def test_outputs_that_cannot_be_told_apart_are_the_models_fault() -> None:
    with pytest.raises(RunFailed, match=r"output 'y' has shape \[1, 1\] for 4 rows"):
        stage_of(lambda inputs: {"y": inputs["x"][:1, :1]}).run(rows_of([1.0] * 4), NEVER)


def test_a_stop_is_seen_before_the_next_batch() -> None:
    stopped = threading.Event()
    model = Model(hook=lambda x: stopped.set())
    with pytest.raises(RunStopped):
        stage_of(model, 4).run(rows_of([1.0] * 100), stopped)
    assert model.calls == [4]


def test_a_stop_is_seen_while_bad_rows_are_looked_for() -> None:
    stopped = threading.Event()
    model = Model(hook=lambda x: stopped.set() if len(x) == 4 else None)
    with pytest.raises(RunStopped):
        stage_of(model, 8).run(rows_of([13.0] * 8), stopped)
    assert model.calls == [8, 1, 4]


def test_a_row_that_takes_the_models_process_with_it_is_found_without_the_canary() -> None:
    def crash(x: Array) -> None:
        if (x[:, 0] == 9).any():
            raise RunCrashed("m/1", "its process ended by signal 11")

    model = Model(hook=crash)
    predicted = stage_of(model, 8).run(rows_of([1.0, 2.0, 9.0, 4.0, 5.0]), NEVER)
    assert [(fault.row, fault.reason) for fault in predicted.failed] == [(2, "run_crashed")]
    assert predicted.outputs["y"][[0, 1, 3, 4], 0].tolist() == [2, 4, 8, 10]
    assert model.calls == [5, 2, 3, 1, 2]


def test_a_model_that_is_restarting_is_waited_for() -> None:
    absences = [ModelNotReady("m/1", "restarting")] * 2

    def absent(x: Array) -> None:
        if absences:
            raise absences.pop()

    predicted = stage_of(Model(hook=absent), 4).run(rows_of([1.0] * 6), NEVER)
    assert predicted.failed == []
    assert predicted.outputs["y"].tolist() == [[2.0]] * 6


def test_a_stop_ends_the_wait_for_a_model() -> None:
    stopped = threading.Event()
    session = FunctionSession(SIGNATURE, Model(hook=lambda x: absent()))

    def absent() -> None:
        session.unready = "restarting"
        stopped.set()
        raise ModelNotReady("m/1", "restarting")

    with pytest.raises(RunStopped):
        PredictStage("m/1", session, 4, CANARY, batched=True).run(rows_of([1.0] * 4), stopped)


def test_a_model_that_does_not_batch_runs_row_by_row() -> None:
    model = Model()
    stage = PredictStage("m/1", FunctionSession(SIGNATURE, model), 64, CANARY, batched=False)
    assert stage.run(rows_of([1.0, 2.0, 3.0]), NEVER).outputs["y"].tolist() == [[2.0], [4.0], [6.0]]
    assert model.calls == [1, 1, 1]


def test_rows_of_a_model_without_a_batch_axis_are_stacked_whatever_their_shapes() -> None:
    def ramp(inputs: Tensors) -> Tensors:
        return {"y": np.arange(int(inputs["x"][0, 0]), dtype=np.float32)[None]}

    stage = PredictStage("m/1", FunctionSession(ALONE, ramp), 8, CANARY, batched=False)
    alike = stage.run(rows_of([2.0, 2.0]), NEVER).outputs["y"]
    assert alike.shape == (2, 1, 2)
    mixed = stage.run(rows_of([2.0, 3.0, 2.0]), NEVER).outputs["y"]
    assert [row.tolist() for row in mixed] == [[[0, 1]], [[0, 1, 2]], [[0, 1]]]


def test_rows_that_differ_in_shape_run_apart_and_none_is_blamed() -> None:
    model = Model()
    predicted = stage_of(model, 4).run(rows_of([1.0, 2.0, 3.0], apart=True), NEVER)
    assert predicted.failed == []
    assert predicted.outputs["y"].tolist() == [[2.0], [4.0], [6.0]]
    assert model.calls == [1, 1, 1]


def test_times_are_counted_by_the_rows_of_a_batch_and_taken_once() -> None:
    now = iter(range(100))
    stage = stage_of(Model(), 4, clock=lambda: float(next(now)))
    stage.run(rows_of([1.0] * 10), NEVER)
    assert [(s.rows, s.runs, s.seconds, s.squares) for s in stage.take_samples()] == [(2, 1, 1, 1), (4, 2, 2, 2)]
    assert stage.take_samples() == ()


def test_a_search_is_told_what_every_batch_took() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5e-3  # so that a batch costs the same whatever its rows
        return now[0]

    search = BatchSearch(BatchPolicy(16))
    stage = stage_of(Model(), search, clock=clock)
    while not search.settled:
        stage.run(rows_of([1.0] * 64), NEVER)
    assert search.best == 16


def test_a_batch_that_is_too_large_for_the_memory_is_not_asked_for_again_and_blames_no_row() -> None:
    def short(x: Array) -> None:
        if len(x) > 8:
            raise RuntimeError("std::bad_alloc")

    search, model = BatchSearch(BatchPolicy(64)), Model(hook=short)
    stage = stage_of(model, search)
    for _ in range(600):
        assert stage.run(rows_of([1.0] * 64), NEVER).failed == []
    assert search.best <= 8
    refused = [rows for rows in model.calls if rows > 8]
    assert refused[0] == 16
    assert sorted(set(refused), reverse=True) == refused


def test_a_search_stays_within_the_budget_of_memory() -> None:
    search, model = BatchSearch(BatchPolicy(64)), Model()
    peak = [100]

    def hook(x: Array) -> None:
        peak[0] = max(peak[0], 100 + 10 * len(x))

    model.hook = hook
    stage = stage_of(model, search, memory=BatchMemory(200, lambda: peak[0]))
    for _ in range(300):
        stage.run(rows_of([1.0] * 64), NEVER)
    assert max(model.calls) == 8
    assert peak[0] <= 200


def test_a_block_without_good_rows_has_outputs_without_rows() -> None:
    model = Model()
    predicted = stage_of(model).run(rows_of([1.0], []), NEVER)
    assert predicted.outputs["y"].shape == (0, 1)
    assert model.calls == []


def test_a_block_of_only_bad_rows_has_outputs_for_the_shape_of_it() -> None:
    predicted = stage_of(Model()).run(rows_of([13.0] * 5), NEVER)
    assert len(predicted.failed) == 5
    assert predicted.outputs["y"].shape == (5, 1)
