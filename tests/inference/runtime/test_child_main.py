"""What a child does with its messages, in memory; test_child_process starts it as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.protocols.child_frames import Load, Loaded, LoadRefused, Ran, Run, RunRaised, tensor_heads
from inference.runtime.child_main import serve
from inference.runtime.child_wire import Wire
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors
from tests.inference.runtime.child_twin import FILE, SIGNATURE

LOAD = Load(str(FILE), RuntimeSettings())


def answer(inputs: Tensors) -> Tensors:
    if inputs["x"].max() > 9:
        raise IndexError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : too\n large")
    return {"y": inputs["x"] + 1}


class Refusing:
    """Loads nothing."""

    def load(self, onnx_file: Path, options: RuntimeSettings) -> FunctionSession:
        raise ModelPackageInvalid("tiny/1", ["one", "two"])


@pytest.fixture
def connect() -> Iterator[Callable[..., Wire]]:
    open_ends: list[tuple[Wire, threading.Thread]] = []

    def begin(provider: FunctionSessionProvider | Refusing | None = None) -> Wire:
        ours, theirs = socket.socketpair()
        provider = provider or FunctionSessionProvider({"tiny": FunctionSession(SIGNATURE, answer)})

        def work() -> None:
            serve(Wire(theirs), provider)
            theirs.close()

        thread = threading.Thread(target=work)
        thread.start()
        open_ends.append((Wire(ours), thread))
        return open_ends[-1][0]

    yield begin
    for wire, thread in open_ends:
        wire.close()
        thread.join(10)
        assert not thread.is_alive(), "a child ends when the other side does"


def test_it_loads_and_runs_and_says_what_the_model_raises(connect: Callable[..., Wire]) -> None:
    wire = connect()
    wire.send(LOAD)
    loaded, _ = wire.receive()
    assert isinstance(loaded, Loaded)
    assert loaded.signature == SIGNATURE
    for value, expected in ((1, [[2.0]]), (10, None), (2, [[3.0]])):
        heads, pieces = tensor_heads({"x": np.array([[value]], np.float32)})
        wire.send(Run(heads), pieces)
        message, outputs = wire.receive()
        if expected is None:
            assert message == RunRaised("too large")
        else:
            assert isinstance(message, Ran)
            assert outputs["y"].tolist() == expected


def test_a_model_that_cannot_be_loaded_is_refused_with_every_reason(connect: Callable[..., Wire]) -> None:
    wire = connect(Refusing())
    wire.send(LOAD)
    assert wire.receive() == (LoadRefused(("one", "two")), {})


def test_it_ends_if_its_parent_is_another_than_it_was_told() -> None:
    """The parent died before the child could tie itself to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "inference.runtime.child_main", str(theirs.fileno()), "1"]
        assert os.getpid() != 1
        done = subprocess.run(command, pass_fds=[theirs.fileno()], timeout=60, check=False)
    assert done.returncode == 1
