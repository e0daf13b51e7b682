"""A batch is put together, run and taken apart; whoever spoils it fails alone."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InputsRejected, RunFailed
from inference.model import ModelKey, Signature
from inference.request import Batch, Request, Slice
from inference.runtime.function_session import FunctionSession
from inference.runtime.runner import BatchOutcome, Runner, run_batch
from inference.runtime.session import OnnxSessionProvider, Session
from inference.settings import RuntimeSettings
from inference.tensor import Array, Tensors, TensorSpec
from tests.inference import tiny_models

KEY = ModelKey("tiny", 1)
CANARY: Tensors = {"x": np.zeros((1, 1), np.float32)}
SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
WAIT_S = 10.0  # far more than any job here takes


def request(*values: float) -> Request:
    x = np.array(values, np.float32).reshape(-1, 1)
    return Request("r", KEY, {"x": x}, len(values), x.nbytes, "same", 1e9, 0.0)


def whole(*requests: Request) -> Batch:
    return Batch(tuple(Slice(one, 0, one.rows) for one in requests))


def onnx(model: Path) -> Session:
    return OnnxSessionProvider().load(model, RuntimeSettings())


def counting(function: Callable[[Array], Array]) -> tuple[FunctionSession, list[int]]:
    """A session of y = function(x) and the rows of each call that it got."""
    calls: list[int] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(len(inputs["x"]))
        return {"y": function(inputs["x"])}

    return FunctionSession(SIGNATURE, run), calls


def failing_on(*poison: float) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        if np.isin(x, poison).any():
            raise IndexError(f"one of {poison} is in it")
        return x

    return run


def answers(outcome: BatchOutcome) -> list[list[float] | type[Exception]]:
    """What each slice got: its values, or the class of its error."""
    return [
        type(result.error) if result.outputs is None else result.outputs["y"].ravel().tolist()
        for result in outcome.results
    ]


# ---- putting together and taking apart -------------------------------------------------------------------------------


def test_each_request_gets_its_own_rows_back_from_one_call(tmp_path: Path) -> None:
    session = onnx(tiny_models.adder(tmp_path / "model.onnx"))
    outcome = run_batch(session, whole(request(1), request(2, 3), request(4)), batched=True, canary=CANARY)
    assert answers(outcome) == [[2], [3, 4], [5]]
    assert outcome.calls == 1
    assert outcome.run_s > 0


def test_a_slice_is_the_part_of_its_request_that_it_names() -> None:
    session, calls = counting(lambda x: x)
    long = request(1, 2, 3, 4, 5)
    outcome = run_batch(session, Batch((Slice(long, 1, 3), Slice(long, 4, 5))), batched=True, canary=CANARY)
    assert answers(outcome) == [[2, 3], [5]]
    assert calls == [3]


def test_a_request_that_is_alone_is_not_copied() -> None:
    seen: list[Tensors] = []
    session = FunctionSession(SIGNATURE, lambda inputs: seen.append(inputs) or {"y": inputs["x"]})
    alone = request(1, 2)
    run_batch(session, whole(alone), batched=True, canary=CANARY)
    assert seen[0] is alone.inputs


def test_a_model_that_does_not_batch_gets_its_inputs_as_they_are_and_answers_in_any_shape() -> None:
    session = FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["x"].sum()[None, None, None]})
    one = Request("r", KEY, {"x": np.ones((4, 1), np.float32)}, 1, 16, "same", 1e9, 0.0)
    outcome = run_batch(session, whole(one), batched=False, canary=CANARY)
    assert answers(outcome) == [[4]]


def test_requests_of_a_model_that_does_not_batch_are_never_put_together() -> None:
    session, _ = counting(lambda x: x)
    with pytest.raises(AssertionError, match="run alone"):
        run_batch(session, whole(request(1), request(2)), batched=False, canary=CANARY)


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), min_size=1, max_size=12))
def test_together_every_request_is_answered_as_alone(contents: list[list[float]]) -> None:
    session, _ = counting(lambda x: x * 3)
    requests = [request(*values) for values in contents]
    together = run_batch(session, whole(*requests), batched=True, canary=CANARY)
    alone = [run_batch(session, whole(one), batched=True, canary=CANARY) for one in requests]
    assert answers(together) == [answers(one)[0] for one in alone]


# ---- blame -----------------------------------------------------------------------------------------------------------


def test_only_the_guilty_request_fails(tmp_path: Path) -> None:
    session = onnx(tiny_models.fails_on(tmp_path / "model.onnx", 13))
    requests = [request(value) for value in (1, 2, 13, 4)]
    outcome = run_batch(session, whole(*requests), batched=True, canary=CANARY)
    assert answers(outcome) == [[1], [2], InputsRejected, [4]]
    assert "out of data bounds" in str(outcome.results[2].error)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.sets(st.integers(1, 5)))
def test_whoever_would_fail_alone_fails_and_nobody_else(values: list[int], poison: set[int]) -> None:
    session, calls = counting(failing_on(*poison))
    outcome = run_batch(session, whole(*map(request, values)), batched=True, canary=CANARY)
    assert answers(outcome) == [InputsRejected if value in poison else [value] for value in values]
    assert outcome.calls == len(calls)


def test_one_guilty_among_many_costs_few_calls() -> None:
    session, calls = counting(failing_on(99))
    outcome = run_batch(session, whole(*map(request, [*range(63), 99])), batched=True, canary=CANARY)
    assert answers(outcome).count(InputsRejected) == 1
    assert len(calls) == 1 + 1 + 2 * 6  # the batch, the canary, and two halves for each of log2(64)


def test_a_model_whose_canary_fails_too_is_to_blame_itself_and_is_not_asked_again() -> None:
    def broken(_: Array) -> Array:
        raise RuntimeError("out of\n memory")

    session, calls = counting(broken)
    outcome = run_batch(session, whole(*map(request, range(8))), batched=True, canary=CANARY)
    assert answers(outcome) == [RunFailed] * 8
    assert str(outcome.results[0].error) == "Model tiny/1 failed to run: out of memory"
    assert len(calls) == 2


def test_a_request_alone_is_to_blame_if_the_canary_runs() -> None:
    session, _ = counting(failing_on(7))
    outcome = run_batch(session, whole(request(7)), batched=False, canary=CANARY)
    assert answers(outcome) == [InputsRejected]


def test_requests_that_cannot_be_put_together_are_answered_alone() -> None:
    session, _ = counting(lambda x: x[:, :1])
    wide = Request("wide", KEY, {"x": np.ones((1, 2), np.float32)}, 1, 8, "same", 1e9, 0.0)
    outcome = run_batch(session, whole(request(5), wide), batched=True, canary=CANARY)
    assert answers(outcome) == [[5], [1]]


def test_answers_that_cannot_be_told_apart_are_no_fault_of_the_caller() -> None:
    session, _ = counting(lambda x: x[:1])
    outcome = run_batch(session, whole(request(1, 2)), batched=True, canary=CANARY)
    assert answers(outcome) == [RunFailed]
    assert "output 'y' has shape [1, 1] for 2 rows of input" in str(outcome.results[0].error)


def test_an_output_without_rows_is_told_from_one_with_too_few() -> None:
    session, _ = counting(lambda x: x.sum())
    outcome = run_batch(session, whole(request(1)), batched=True, canary=CANARY)
    assert "has shape [] for 1 rows" in str(outcome.results[0].error)


# ---- NaN and infinity ------------------------------------------------------------------------------------------------


def test_nan_and_infinity_are_named_for_the_request_that_got_them(tmp_path: Path) -> None:
    session = onnx(tiny_models.nan_model(tmp_path / "model.onnx"))
    outcome = run_batch(session, whole(request(1), request(-1), request(0), request(2)), batched=True, canary=CANARY)
    assert [result.non_finite for result in outcome.results] == [(), ("y",), ("y",), ()]
    assert [result.error for result in outcome.results] == [None] * 4
    assert outcome.calls == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_looked_through(value: float, dtype: type) -> None:
    session = FunctionSession(SIGNATURE, lambda _: {"y": np.array([[1, value]], dtype), "z": np.array([[1]])})
    outcome = run_batch(session, whole(request(1)), batched=False, canary=CANARY)
    assert outcome.results[0].non_finite == ("y",)


# ---- the thread ------------------------------------------------------------------------------------------------------


def started(session: Session) -> Runner:
    runner = Runner("tiny/1#0", session)
    runner.start()
    return runner


def test_a_runner_does_its_jobs_in_order_and_in_its_own_thread() -> None:
    session, _ = counting(lambda x: x)
    runner = started(session)
    outcomes: SimpleQueue[object] = SimpleQueue()
    runner.run(whole(request(1), request(2)), True, CANARY, outcomes.put)
    runner.call(lambda: threading.current_thread().name, outcomes.put)
    first, second = outcomes.get(timeout=WAIT_S), outcomes.get(timeout=WAIT_S)
    assert isinstance(first, BatchOutcome)
    assert answers(first) == [[1], [2]]
    assert second == "tiny/1#0"
    assert runner.stop(WAIT_S)


def test_a_call_that_raises_hands_its_exception_over() -> None:
    runner = started(counting(lambda x: x)[0])
    outcomes: SimpleQueue[object] = SimpleQueue()
    runner.call(lambda: 1 / 0, outcomes.put)
    assert isinstance(outcomes.get(timeout=WAIT_S), ZeroDivisionError)
    assert runner.stop(WAIT_S)


def test_whatever_escapes_a_batch_answers_everyone_and_the_runner_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def exits(x: Array) -> Array:
        if x.max() > 1:
            raise SystemExit("enough")
        return x

    runner = started(counting(exits)[0])
    outcomes: SimpleQueue[BatchOutcome] = SimpleQueue()
    with caplog.at_level(logging.ERROR):
        runner.run(whole(request(1), request(2)), True, CANARY, outcomes.put)
        assert answers(outcomes.get(timeout=WAIT_S)) == [RunFailed, RunFailed]
    assert "a batch of tiny/1 escaped its runner" in caplog.text
    runner.run(whole(request(1)), True, CANARY, outcomes.put)
    assert answers(outcomes.get(timeout=WAIT_S)) == [[1]]
    assert runner.stop(WAIT_S)


def test_an_outcome_that_nobody_takes_is_logged_and_the_runner_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("the loop is closed")

    runner = started(counting(lambda x: x)[0])
    outcomes: SimpleQueue[object] = SimpleQueue()
    with caplog.at_level(logging.ERROR):
        runner.run(whole(request(1)), True, CANARY, refuse)
        runner.call(lambda: "still here", outcomes.put)
        assert outcomes.get(timeout=WAIT_S) == "still here"
    assert "could not be handed over" in caplog.text
    assert runner.stop(WAIT_S)


def test_stop_finishes_what_is_queued() -> None:
    runner = started(counting(lambda x: x)[0])
    outcomes: SimpleQueue[object] = SimpleQueue()
    for number in range(50):
        runner.call(lambda number=number: number, outcomes.put)
    assert runner.stop(WAIT_S)
    assert [outcomes.get_nowait() for _ in range(50)] == list(range(50))


def test_stop_gives_up_on_a_call_that_does_not_come_back() -> None:
    release, inside = threading.Event(), threading.Event()
    runner = started(counting(lambda x: x)[0])
    runner.call(lambda: inside.set() or release.wait(WAIT_S), lambda _: None)
    assert inside.wait(WAIT_S)
    assert not runner.stop(0.01)
    release.set()
    assert runner.stop(WAIT_S)


def test_a_runner_that_never_started_stops_at_once() -> None:
    assert Runner("idle", counting(lambda x: x)[0]).stop(WAIT_S)


def test_an_idle_runner_holds_no_batch_in_memory() -> None:
    runner = started(counting(lambda x: x + 1)[0])
    outcomes: SimpleQueue[object] = SimpleQueue()
    one = request(1)
    ended = weakref.ref(one.inputs["x"])
    runner.run(whole(one), True, CANARY, outcomes.put)
    outcomes.get(timeout=WAIT_S)
    runner.call(lambda: None, outcomes.put)  # once this has run, the batch before is out of the runner's hands
    outcomes.get(timeout=WAIT_S)
    del one
    gc.collect()
    assert ended() is None
    assert runner.stop(WAIT_S)
