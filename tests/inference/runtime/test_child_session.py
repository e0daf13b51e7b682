"""A session in child processes: the same answers and refusals, and a crash or a hang that harms one batch."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from inference.errors import ModelNotReady, RunCrashed
from inference.model import ModelKey
from inference.request import Batch, Request, Slice
from inference.runtime import child_pool
from inference.runtime.child_pool import ChildPool
from inference.runtime.child_session import ChildSession, ChildSessionProvider
from inference.runtime.runner import BatchOutcome, Runner
from inference.runtime.session import OnnxSessionProvider, RunStopped, Session
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors
from tests.inference import tiny_models
from tests.inference.runtime.child_twin import FILE, SIGNATURE, Twins, until_busy

OPTIONS = RuntimeSettings(providers=("cpu",))
WAIT_S = 30.0
ENDLESS = 1e15


def x(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


def batch_of(*values: float) -> Batch:
    requests = [Request("r", ModelKey("tiny", 1), x(value), 1, 4, "same", 1e9, 0.0) for value in values]
    return Batch(tuple(Slice(request, 0, 1) for request in requests))


def until_back(session: Session) -> None:
    """Until a process is there again; the wait of each run is bounded, so it may take several."""
    for _ in range(100):
        try:
            session.run(x(0))
        except (ModelNotReady, RunCrashed):
            continue
        return
    pytest.fail(f"the process did not come back: {session.unready}")


# ---- in memory -------------------------------------------------------------------------------------------------------


class Scripted:
    """y = x; a value of 13 raises, 99 waits until it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Semaphore(0), threading.Event()
        self.twins = Twins(self._run)

    def _run(self, inputs: Tensors) -> Tensors:
        if 13.0 in inputs["x"]:
            raise IndexError("unlucky")
        if 99.0 in inputs["x"]:
            self.entered.release()
            assert self.released.wait(WAIT_S)
        return {"y": inputs["x"]}


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.released.set()


@pytest.fixture
def session(scripted: Scripted) -> Iterator[ChildSession]:
    pool = ChildPool(FILE, OPTIONS, scripted.twins.start)
    session = ChildSession(pool, pool.open())
    yield session
    session.close()


def in_thread(function: Callable[[], object]) -> SimpleQueue[object]:
    """Call in a thread; what it returns or raises."""
    results = SimpleQueue[object]()

    def work() -> None:
        try:
            results.put(function())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.put(error)

    threading.Thread(target=work).start()
    return results


def test_it_answers_and_raises_as_any_session(session: ChildSession) -> None:
    assert session.signature == SIGNATURE
    assert session.device.provider == "cpu"
    assert session.run(x(1, 2))["y"].tolist() == [[1], [2]]
    with pytest.raises(Exception, match="unlucky"):
        session.run(x(13))
    assert session.run(x(3))["y"].tolist() == [[3]]
    assert session.unready == ""


def test_a_death_in_the_middle_of_a_run_fails_that_run_alone(session: ChildSession, scripted: Scripted) -> None:
    results = in_thread(lambda: session.run(x(99)))
    assert scripted.entered.acquire(timeout=WAIT_S)
    scripted.twins.processes[0].die(signal.SIGSEGV)
    error = results.get(timeout=WAIT_S)
    assert isinstance(error, RunCrashed)
    assert str(error) == "Model tiny/1 failed to run: the process that ran it died by SIGSEGV"
    assert session.run(x(4))["y"].tolist() == [[4]]
    assert len(scripted.twins.processes) == 2


def test_a_seat_stops_its_own_run_and_no_other(session: ChildSession, scripted: Scripted) -> None:
    one, other = session.seat(), session.seat()
    stuck = in_thread(lambda: one.run(x(99)))
    assert scripted.entered.acquire(timeout=WAIT_S)
    beside = in_thread(lambda: other.run(x(99, 5)))
    assert scripted.entered.acquire(timeout=WAIT_S)
    one.stop()
    assert isinstance(stuck.get(timeout=WAIT_S), RunStopped)
    with pytest.raises(RunStopped):
        one.run(x(1))
    scripted.released.set()
    answer = beside.get(timeout=WAIT_S)
    assert isinstance(answer, dict)
    assert answer["y"].tolist() == [[99], [5]]
    one.reset()
    assert one.run(x(1))["y"].tolist() == [[1]]
    one.close()
    other.close()


def test_what_breaks_off_a_run_in_this_process_gives_its_child_up(
    session: ChildSession, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that is still to come must not be taken for that of the next run."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session._pool._idle[0]._wire, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.run(x(1))
    assert session.run(x(2))["y"].tolist() == [[2]]
    assert len(scripted.twins.processes) == 2


def test_a_session_whose_process_is_gone_says_so_and_refuses(
    session: ChildSession, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_pool, "BACKOFF_FIRST_S", 1000.0)
    monkeypatch.setattr(child_pool, "BACKOFF_LAST_S", 1000.0)
    for _ in range(2):
        results = in_thread(lambda: session.run(x(99)))
        assert scripted.entered.acquire(timeout=WAIT_S)
        scripted.twins.processes[-1].die(signal.SIGABRT)
        assert isinstance(results.get(timeout=WAIT_S), RunCrashed)
    assert session.unready.startswith("its process died")
    with pytest.raises(ModelNotReady, match="restarting"):
        session.run(x(1))


def test_strings_and_scalars_go_through(scripted: Scripted) -> None:
    given = {"names": np.array([["ü", ""]], object), "scale": np.array(2.0, np.float64)}
    twins = Twins(lambda inputs: inputs)
    pool = ChildPool(FILE, OPTIONS, twins.start)
    session = ChildSession(pool, pool.open())
    answer = session.run(given)
    assert answer["names"].tolist() == [["ü", ""]]
    assert (answer["scale"].shape, float(answer["scale"])) == ((), 2.0)
    session.close()


# ---- real processes --------------------------------------------------------------------------------------------------


def test_a_native_crash_fails_one_batch_and_a_hang_is_killed(tmp_path: Path) -> None:
    """The whole of it with a real process: load, run, crash, run, hang, stop, run."""
    place = tiny_models.package(tmp_path, "loop", 1, tiny_models.looping)
    session = ChildSessionProvider().load(place / "model.onnx", OPTIONS)
    direct = OnnxSessionProvider().load(place / "model.onnx", OPTIONS)
    assert session.signature == direct.signature
    assert session.device == direct.device
    assert session.run(x(2, 3))["y"].tolist() == direct.run(x(2, 3))["y"].tolist()
    runner, outcomes = Runner("loop/1#0", session), SimpleQueue[BatchOutcome]()
    runner.start()

    for end, reason in (
        (lambda: os.kill(session.pids[0], signal.SIGSEGV), "run_crashed"),
        (lambda: os.kill(session.pids[0], signal.SIGKILL), "run_crashed"),
        (lambda: runner.interrupt(1.0), "run_hung"),
    ):
        runner.run(batch_of(ENDLESS, 1), True, x(0), outcomes.put)
        until_busy(session.pids[0])
        end()
        outcome = outcomes.get(timeout=WAIT_S)
        assert [result.error and result.error.reason for result in outcome.results] == [reason, reason]
        assert outcome.calls == 1
        until_back(session)
        runner.run(batch_of(4, 5), True, x(0), outcomes.put)
        outcome = outcomes.get(timeout=WAIT_S)
        assert [result.outputs and result.outputs["y"].tolist() for result in outcome.results] == [[[4]], [[5]]]
        assert direct.run(x(1))["y"].tolist() == [[1]]

    assert runner.stop(WAIT_S)
    pids = session.pids
    session.close()
    assert len(pids) == 1
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_model_that_cannot_be_loaded_is_refused_with_the_same_sentences(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "broken", 3, tiny_models.corrupt)
    with pytest.raises(ModelPackageInvalid) as direct:
        OnnxSessionProvider().load(place / "model.onnx", OPTIONS)
    with pytest.raises(ModelPackageInvalid) as isolated:
        ChildSessionProvider().load(place / "model.onnx", OPTIONS)
    assert str(isolated.value) == str(direct.value)
