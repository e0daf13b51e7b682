"""The in-memory twin of a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.model import Signature
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.runtime.session import RunStopped, Seat, Session, SessionProvider
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))


def doubling() -> FunctionSession:
    return FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["x"] * 2})


def test_it_answers_with_its_function_as_any_session_would() -> None:
    session: Session = doubling()
    assert session.run({"x": np.ones((2, 1), np.float32)})["y"].tolist() == [[2], [2]]
    assert session.signature == SIGNATURE
    assert session.device.provider == "cpu"
    session.close()


def test_its_seats_stop_as_those_of_any_session() -> None:
    told: list[str] = []

    def function(inputs: Tensors) -> Tensors:
        if told:
            raise ValueError("it was told to end")
        return inputs

    session = FunctionSession(SIGNATURE, function, lambda: told.append("stop"))
    x = {"x": np.ones((1, 1), np.float32)}
    seat: Seat = session.seat()
    other: Seat = session.seat()
    assert session.seats == 2
    assert seat.run(x) is x
    seat.stop()
    with pytest.raises(RunStopped):
        seat.run(x)
    with pytest.raises(ValueError, match="told to end"):
        other.run(x)
    told.clear()
    seat.reset()
    assert seat.run(x) is x
    seat.close()
    other.close()
    assert session.seats == 0


def test_a_function_that_raises_once_it_is_stopped_was_stopped() -> None:
    seats: list[Seat] = []

    def function(inputs: Tensors) -> Tensors:
        seats[0].stop()
        raise ValueError("it was told to end")

    seats.append(FunctionSession(SIGNATURE, function).seat())
    with pytest.raises(RunStopped):
        seats[0].run({})


def test_its_provider_gives_it_by_the_model_s_name() -> None:
    session = doubling()
    provider: SessionProvider = FunctionSessionProvider({"double": session})
    assert provider.load(Path("models/double/1/model.onnx"), RuntimeSettings()) is session
    with pytest.raises(ModelPackageInvalid, match="no session was made for 'triple'"):
        provider.load(Path("models/triple/1/model.onnx"), RuntimeSettings())


def test_it_needs_no_onnx_runtime() -> None:
    script = "import sys, inference.runtime.function_session; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
