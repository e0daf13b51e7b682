"""A session that runs a Python function: the in-memory twin of an ONNX session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inference.device import Device
from inference.errors import ModelPackageInvalid
from inference.model import Signature
from inference.settings import RuntimeSettings
from inference.tensor import Tensors


class FunctionSession:
    """Answers with `function(inputs)`, which gives all outputs by name and may raise. Thread-safe if `function` is."""

    def __init__(self, signature: Signature, function: Callable[[Tensors], Tensors]) -> None:
        self.signature = signature
        self.device = Device("cpu")
        self._function = function

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name, as the function gives them."""
        return self._function(inputs)

    def close(self) -> None:
        """Nothing to give back."""


class FunctionSessionProvider:
    """Gives the sessions that it was made with, by the name of the model's folder (`NAME/VERSION/model.onnx`)."""

    def __init__(self, sessions: dict[str, FunctionSession]) -> None:
        self._sessions = sessions

    def load(self, onnx_file: Path, options: RuntimeSettings) -> FunctionSession:
        """The session of this model. Raises ModelPackageInvalid if there is none."""
        name = onnx_file.parent.parent.name
        session = self._sessions.get(name)
        if session is None:
            raise ModelPackageInvalid(name, [f"no session was made for {name!r}"])
        return session
