"""A session that runs a Python function: the in-memory twin of an ONNX session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inference.device import Device
from inference.model import Signature
from inference.runtime.session import RunStopped
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors


class FunctionSession:
    """Answers with `function(inputs)`, which gives all outputs by name and may raise. Thread-safe if `function` is.

    `stop` is called when a seat is stopped, so that a function that waits can raise. `unready` may be set.
    """

    def __init__(
        self, signature: Signature, function: Callable[[Tensors], Tensors], stop: Callable[[], object] | None = None
    ) -> None:
        self.signature = signature
        self.device = Device("cpu")
        self.unready = ""
        self.bounded = False
        self.seats = 0  # open ones
        self._function = function
        self._stop = stop

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name, as the function gives them."""
        return self._function(inputs)

    def seat(self) -> FunctionSeat:
        """See Session."""
        self.seats += 1
        return FunctionSeat(self, self._stop)

    def close(self) -> None:
        """Nothing to give back."""


class FunctionSeat:
    """A seat at a function: what it raises once it is stopped counts as stopped."""

    def __init__(self, session: FunctionSession, stop: Callable[[], object] | None) -> None:
        self._session = session
        self._stop = stop
        self._stopped = False

    def run(self, inputs: Tensors) -> Tensors:
        """See Seat."""
        if self._stopped:
            raise RunStopped
        try:
            return self._session.run(inputs)
        except Exception as error:
            if self._stopped:
                raise RunStopped from error
            raise

    def stop(self) -> None:
        """See Seat."""
        self._stopped = True
        if self._stop is not None:
            self._stop()

    def reset(self) -> None:
        """See Seat."""
        self._stopped = False

    def close(self) -> None:
        """See Seat."""
        self._session.seats -= 1


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
