"""Real child processes: started, asked, killed, and gone when their parent is."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from inference.protocols.child_frames import Ran, RunRaised
from inference.runtime.child_process import Child, ChildDied, ChildRaised, start_child
from inference.runtime.child_wire import Wire
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors
from tests.inference import tiny_models
from tests.inference.runtime.child_twin import FILE, SIGNATURE, ThreadProcess, Twins

OPTIONS = RuntimeSettings(providers=("cpu",))
WAIT_S = 30.0


def x(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


@pytest.fixture
def child() -> Iterator[Child]:
    child = start_child()
    yield child
    child.close()
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_process_loads_a_model_and_runs_it(child: Child, tmp_path: Path) -> None:
    loaded = child.load("tiny/1", tiny_models.fails_on(tmp_path / "model.onnx", 13), OPTIONS)
    assert loaded.signature == SIGNATURE
    assert loaded.device.provider == "cpu"
    assert child.run(x(1, 2))["y"].tolist() == [[1], [2]]
    with pytest.raises(ChildRaised, match="indices element out of data bounds"):
        child.run(x(13))
    os.kill(child.pid, signal.SIGTERM)  # a stop of the whole group: what was accepted is still run
    os.kill(child.pid, signal.SIGINT)
    assert child.run(x(3))["y"].tolist() == [[3]]
    assert not child.gone()
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(ChildDied, match="died by SIGSEGV"):
        child.run(x(1))
    assert child.gone()
    with pytest.raises(ChildDied, match="died by SIGSEGV"):
        child.run(x(1))


def test_a_process_is_killed_in_the_middle_of_a_run(child: Child, tmp_path: Path) -> None:
    child.load("tiny/1", tiny_models.looping(tmp_path / "model.onnx"), OPTIONS)
    threading.Timer(0.05, child.kill).start()
    with pytest.raises(ChildDied, match="was stopped"):
        child.run(x(1e15))


PARENT = """
import sys, threading
from pathlib import Path
import numpy as np
from inference.runtime.child_process import start_child
from inference.settings import RuntimeSettings
child = start_child()
child.load("tiny/1", Path(sys.argv[1]), RuntimeSettings(providers=("cpu",)))
def busy_ticks():
    return int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11])
before = busy_ticks()
threading.Thread(target=lambda: child.run({"x": np.array([[1e15]], np.float32)})).start()
while busy_ticks() < before + 5:
    pass
print(child.pid, flush=True)
"""


def test_a_process_ends_with_its_parent_even_in_the_middle_of_a_run(tmp_path: Path) -> None:
    model = tiny_models.looping(tmp_path / "model.onnx")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(model)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    assert ended.poll(WAIT_S * 1000), "the child has outlived its parent"
    os.close(descriptor)


# ---- in memory -------------------------------------------------------------------------------------------------------


def twin(status: int) -> tuple[Child, ThreadProcess]:
    ours, theirs = socket.socketpair()
    process = ThreadProcess(theirs)
    process.status = status
    process._ended.set()
    theirs.close()
    return Child(cast(Any, process), Wire(ours)), process


@pytest.mark.parametrize(
    ("status", "words"),
    [(-9, "died by SIGKILL"), (-6, "died by SIGABRT"), (-40, "died by signal 40"), (3, "ended with status 3")],
)
def test_how_a_process_ended_is_put_into_words(status: int, words: str) -> None:
    child, _ = twin(status)
    with pytest.raises(ChildDied, match=words):
        child.run(x(1))
    child.close()


def test_a_process_that_lingers_after_it_has_closed_its_socket_is_killed() -> None:
    class Lingering(ThreadProcess):
        def wait(self, timeout: float | None = None) -> int:
            if self.status is None:
                raise subprocess.TimeoutExpired("child", timeout or 0)
            return self.status

        def kill(self) -> None:
            self.status = -9

    ours, theirs = socket.socketpair()
    process = Lingering(theirs)
    child = Child(cast(Any, process), Wire(ours))
    theirs.close()
    assert child.ending() == "was stopped"
    child.close()


@pytest.mark.parametrize("answer", [RunRaised("no"), Ran(())])
def test_an_answer_to_another_question_is_no_answer(answer: RunRaised | Ran) -> None:
    ours, theirs = socket.socketpair()
    process = ThreadProcess(theirs)
    child = Child(cast(Any, process), Wire(ours))
    Wire(theirs).send(answer)
    with pytest.raises(ChildDied, match="makes no sense: it answers a load with"):
        child.load("tiny/1", FILE, OPTIONS)
    assert child.killed
    child.close()
    theirs.close()


def test_a_damaged_answer_ends_the_process() -> None:
    ours, theirs = socket.socketpair()
    child = Child(cast(Any, ThreadProcess(theirs)), Wire(ours))
    theirs.sendall(b"\xff" * 12)
    with pytest.raises(ChildDied, match="makes no sense: a header of"):
        child.run(x(1))
    assert child.killed
    child.close()
    theirs.close()


def test_a_model_that_cannot_be_loaded_is_refused_as_in_this_process() -> None:
    child = Twins(lambda inputs: {"y": inputs["x"]}).start()
    with pytest.raises(ModelPackageInvalid, match="no session was made for 'other'"):
        child.load("other/1", Path("/models/other/1/model.onnx"), OPTIONS)
    child.close()
