"""The in-memory twin of a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.errors import ModelPackageInvalid
from inference.model import Signature
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.runtime.session import Session, SessionProvider
from inference.settings import RuntimeSettings
from inference.tensor import TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))


def doubling() -> FunctionSession:
    return FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["x"] * 2})


def test_it_answers_with_its_function_as_any_session_would() -> None:
    session: Session = doubling()
    assert session.run({"x": np.ones((2, 1), np.float32)})["y"].tolist() == [[2], [2]]
    assert session.signature == SIGNATURE
    assert session.device.provider == "cpu"
    session.close()


def test_its_provider_gives_it_by_the_model_s_name() -> None:
    session = doubling()
    provider: SessionProvider = FunctionSessionProvider({"double": session})
    assert provider.load(Path("models/double/1/model.onnx"), RuntimeSettings()) is session
    with pytest.raises(ModelPackageInvalid, match="no session was made for 'triple'"):
        provider.load(Path("models/triple/1/model.onnx"), RuntimeSettings())


def test_it_needs_no_onnx_runtime() -> None:
    script = "import sys, inference.runtime.function_session; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
