"""A runner that is stopped in the middle of a run, or given up; and a model whose process died is not asked again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from inference.errors import InferenceError, InputsRejected, ModelNotReady, RunCrashed, RunHung
from inference.model import ModelKey, Signature
from inference.request import Batch, Request, Slice
from inference.runtime.function_session import FunctionSession
from inference.runtime.runner import BatchOutcome, Runner, hung_outcome, run_batch
from inference.runtime.session import OnnxSessionProvider, Session
from inference.settings import RuntimeSettings
from inference.tensor import Array, Tensors, TensorSpec
from tests.inference import tiny_models

KEY = ModelKey("tiny", 1)
CANARY: Tensors = {"x": np.zeros((1, 1), np.float32)}
SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
WAIT_S = 10.0  # far more than any job here takes
Outcomes = SimpleQueue[BatchOutcome]


def batch_of(*values: float) -> Batch:
    inputs = [{"x": np.array([[value]], np.float32)} for value in values]
    requests = [Request("r", KEY, each, 1, 4, "same", 1e9, 0.0) for each in inputs]
    return Batch(tuple(Slice(request, 0, 1) for request in requests))


def given_to(outcome: BatchOutcome) -> list[float | str]:
    """What each slice got: its value, or the reason of its error."""
    return [
        result.error.reason if result.error else float((result.outputs or {})["y"][0, 0]) for result in outcome.results
    ]


class Stuck:
    """y = x, but a call with a value in `on` waits, until it is released or, unless it is `deaf`, stopped."""

    def __init__(self, *on: float, deaf: bool = False) -> None:
        self.on = on
        self.deaf = deaf
        self.entered, self.released, self.stopped = threading.Semaphore(0), threading.Event(), threading.Event()
        self.calls: list[list[float]] = []
        self.session = FunctionSession(SIGNATURE, self._run, self.stopped.set)

    def _run(self, inputs: Tensors) -> Tensors:
        values = inputs["x"].ravel().tolist()
        self.calls.append(values)
        if set(values) & set(self.on):
            self.entered.release()
            assert (self.released if self.deaf else self.stopped).wait(WAIT_S)
            if not self.deaf:
                raise RuntimeError("terminated")
        if 666.0 in values:
            raise IndexError("poison")
        return {"y": inputs["x"]}


def started(session: Session) -> Runner:
    runner = Runner("tiny/1#0", session)
    runner.start()
    return runner


def give(runner: Runner, outcomes: Outcomes, *values: float) -> None:
    runner.run(batch_of(*values), True, CANARY, outcomes.put)


# ---- interrupt -------------------------------------------------------------------------------------------------------


def test_a_stopped_run_is_told_to_its_callers_and_nobody_is_looked_for() -> None:
    stuck, outcomes = Stuck(1), Outcomes()
    runner = started(stuck.session)
    give(runner, outcomes, 1, 2, 3)
    assert stuck.entered.acquire(timeout=WAIT_S)
    assert runner.interrupt(1.5)
    outcome = outcomes.get(timeout=WAIT_S)
    assert given_to(outcome) == ["run_hung"] * 3
    assert str(outcome.results[0].error) == (
        "Model tiny/1 failed to run: a run took longer than 1.5 s and was given up"
    )
    assert stuck.calls == [[1, 2, 3]]
    give(runner, outcomes, 4)
    assert given_to(outcomes.get(timeout=WAIT_S)) == [4.0]
    assert runner.stop(WAIT_S)


def test_onnx_runtime_stops_in_the_middle_of_an_endless_loop(tmp_path: Path) -> None:
    session = OnnxSessionProvider().load(tiny_models.looping(tmp_path / "model.onnx"), RuntimeSettings())
    runner, outcomes = started(session), Outcomes()
    for _ in range(2):
        give(runner, outcomes, 1e15)
        assert runner.interrupt(1.0)
        assert given_to(outcomes.get(timeout=WAIT_S)) == ["run_hung"]
        give(runner, outcomes, 3, 1)
        assert given_to(outcomes.get(timeout=WAIT_S)) == [3.0, 1.0]
    assert runner.stop(WAIT_S)


def test_a_batch_that_is_interrupted_before_it_begins_does_not_run() -> None:
    stuck, outcomes = Stuck(), Outcomes()
    runner, gate = started(stuck.session), threading.Event()
    runner.call(lambda: gate.wait(WAIT_S), lambda _: None)
    give(runner, outcomes, 1)
    assert runner.interrupt(1.0)
    gate.set()
    assert given_to(outcomes.get(timeout=WAIT_S)) == ["run_hung"]
    assert stuck.calls == []
    give(runner, outcomes, 2)
    assert given_to(outcomes.get(timeout=WAIT_S)) == [2.0]
    assert runner.stop(WAIT_S)


def test_an_idle_runner_cannot_be_interrupted_and_its_next_run_is_not() -> None:
    outcomes = Outcomes()
    runner = started(Stuck().session)
    assert not runner.interrupt(1.0)
    give(runner, outcomes, 1)
    assert given_to(outcomes.get(timeout=WAIT_S)) == [1.0]
    assert not runner.interrupt(1.0)
    give(runner, outcomes, 2)
    assert given_to(outcomes.get(timeout=WAIT_S)) == [2.0]
    assert runner.stop(WAIT_S)


def test_an_answer_that_comes_in_spite_of_the_stop_is_given() -> None:
    stuck, outcomes = Stuck(1, deaf=True), Outcomes()
    runner = started(stuck.session)
    give(runner, outcomes, 1)
    assert stuck.entered.acquire(timeout=WAIT_S)
    assert runner.interrupt(1.0)
    stuck.released.set()
    assert given_to(outcomes.get(timeout=WAIT_S)) == [1.0]
    assert runner.stop(WAIT_S)


def test_a_canary_that_hangs_while_the_guilty_is_looked_for_is_stopped_too() -> None:
    stuck, outcomes = Stuck(0), Outcomes()
    runner = started(stuck.session)
    give(runner, outcomes, 1, 666)
    assert stuck.entered.acquire(timeout=WAIT_S)
    assert runner.interrupt(1.0)
    assert given_to(outcomes.get(timeout=WAIT_S)) == ["run_hung", "run_hung"]
    assert stuck.calls == [[1, 666], [0]]
    assert runner.stop(WAIT_S)


def test_a_half_that_hangs_while_the_guilty_is_looked_for_is_stopped_too() -> None:
    calls: list[list[float]] = []
    entered, stopped = threading.Event(), threading.Event()

    def run(inputs: Tensors) -> Tensors:
        calls.append(inputs["x"].ravel().tolist())
        if calls[-1] == [1, 2]:
            entered.set()
            assert stopped.wait(WAIT_S)
        if 666.0 in calls[-1] or stopped.is_set():
            raise IndexError("poison")
        return {"y": inputs["x"]}

    runner, outcomes = started(FunctionSession(SIGNATURE, run, stopped.set)), Outcomes()
    give(runner, outcomes, 1, 2, 3, 666)
    assert entered.wait(WAIT_S)
    assert runner.interrupt(1.0)
    assert given_to(outcomes.get(timeout=WAIT_S)) == ["run_hung"] * 4
    assert calls == [[1, 2, 3, 666], [0], [1, 2]]
    assert runner.stop(WAIT_S)


def test_each_further_session_call_of_a_batch_is_announced() -> None:
    stuck, outcomes, again = Stuck(), Outcomes(), SimpleQueue[None]()
    runner = started(stuck.session)
    runner.run(batch_of(1, 2, 3, 666), True, CANARY, outcomes.put, lambda: again.put(None))
    outcome = outcomes.get(timeout=WAIT_S)
    assert given_to(outcome) == [1.0, 2.0, 3.0, InputsRejected.reason]
    assert again.qsize() == len(stuck.calls) - 1 == outcome.calls - 1
    assert runner.stop(WAIT_S)


# ---- abandon ---------------------------------------------------------------------------------------------------------


def test_a_runner_that_is_abandoned_says_nothing_more_and_ends_when_its_run_does() -> None:
    stuck, outcomes, back = Stuck(1, deaf=True), Outcomes(), threading.Event()
    runner = started(stuck.session)
    give(runner, outcomes, 1)
    assert stuck.entered.acquire(timeout=WAIT_S)
    assert runner.interrupt(1.0)
    assert runner.abandon(back.set)
    assert not runner.stop(WAIT_S)
    assert stuck.session.seats == 1
    assert not back.is_set()
    stuck.released.set()
    assert back.wait(WAIT_S)
    assert outcomes.empty()
    assert stuck.session.seats == 0


def test_a_runner_that_is_abandoned_before_its_job_begins_does_not_begin_it() -> None:
    stuck, outcomes, back = Stuck(), Outcomes(), threading.Event()
    runner, gate = started(stuck.session), threading.Event()
    runner.call(lambda: gate.wait(WAIT_S), lambda _: None)
    give(runner, outcomes, 1)
    assert runner.abandon(back.set)
    gate.set()
    assert back.wait(WAIT_S)
    assert outcomes.empty()
    assert stuck.calls == []


def test_a_runner_that_is_done_is_not_abandoned() -> None:
    outcomes = Outcomes()
    runner = started(Stuck().session)
    assert not runner.abandon()
    give(runner, outcomes, 1)
    outcomes.get(timeout=WAIT_S)
    assert not runner.abandon()
    give(runner, outcomes, 2)
    assert given_to(outcomes.get(timeout=WAIT_S)) == [2.0]
    assert runner.stop(WAIT_S)


@pytest.mark.parametrize("turns", [0, 10, 50, 100, 300])
def test_an_outcome_is_handed_over_or_taken_back_and_never_both(turns: int) -> None:
    """The two threads race: the run ends by itself at about the time at which it is given up."""
    for _ in range(60):
        outcomes, back = Outcomes(), threading.Event()
        runner = started(Stuck().session)
        give(runner, outcomes, 1)
        for _ in range(turns):
            pass
        abandoned = runner.abandon(back.set)
        if abandoned:
            assert back.wait(WAIT_S)
        else:
            outcomes.get(timeout=WAIT_S)
            assert runner.stop(WAIT_S)
        assert outcomes.empty()


def test_callers_of_an_abandoned_batch_are_answered_without_it() -> None:
    outcome = hung_outcome(batch_of(1, 2), 3.0, 3.5)
    assert [type(result.error) for result in outcome.results] == [RunHung, RunHung]
    assert outcome.run_s == 3.5


def test_a_runner_takes_a_seat_and_gives_it_back() -> None:
    session = Stuck().session
    runner = started(session)
    assert session.seats == 1
    assert runner.stop(WAIT_S)
    assert session.seats == 0
    never_started = Runner("idle", session)
    assert never_started.stop(WAIT_S)
    assert session.seats == 0


# ---- a model whose process died --------------------------------------------------------------------------------------


def failing(when: Callable[[Array], bool], error: InferenceError) -> tuple[FunctionSession, list[list[float]]]:
    calls: list[list[float]] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(inputs["x"].ravel().tolist())
        if when(inputs["x"]):
            raise error
        if 666.0 in calls[-1]:
            raise IndexError("poison")
        return {"y": inputs["x"]}

    return FunctionSession(SIGNATURE, run), calls


@pytest.mark.parametrize(
    "error",
    [RunCrashed("tiny/1", "the process that ran it died by SIGSEGV"), ModelNotReady("tiny/1", "restarting")],
    ids=lambda error: error.reason,
)
def test_what_a_session_says_of_itself_goes_to_every_caller_and_the_batch_is_not_tried_again(
    error: InferenceError,
) -> None:
    session, calls = failing(lambda _: True, error)
    outcome = run_batch(session, batch_of(1, 2, 3, 4), batched=True, canary=CANARY)
    assert [result.error for result in outcome.results] == [error] * 4
    assert calls == [[1, 2, 3, 4]]


def test_a_crash_while_the_guilty_is_looked_for_ends_the_search() -> None:
    error = RunCrashed("tiny/1", "the process that ran it died by SIGSEGV")
    session, calls = failing(lambda x: len(x) == 2, error)
    outcome = run_batch(session, batch_of(1, 2, 3, 666), batched=True, canary=CANARY)
    assert [result.error for result in outcome.results] == [error] * 4
    assert calls == [[1, 2, 3, 666], [0], [1, 2]]
    session, calls = failing(lambda x: len(x) == 1, error)
    outcome = run_batch(session, batch_of(1, 2, 3, 666), batched=True, canary=CANARY)
    assert [result.error for result in outcome.results] == [error] * 4
    assert calls == [[1, 2, 3, 666], [0]]
