"""What a child process does: loads one model and runs what it is sent, until the other side is gone.

`python -m inference.runtime.child_main DESCRIPTOR PARENT`, started by child_process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
from pathlib import Path

from inference.protocols.child_frames import Load, Loaded, LoadRefused, Ran, Run, RunRaised, tensor_heads
from inference.runtime.cause import cause_of
from inference.runtime.child_wire import Wire, WireClosed
from inference.runtime.session import OnnxSessionProvider, Session, SessionProvider
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors

PR_SET_PDEATHSIG = 1  # of prctl(2)


def serve(wire: Wire, provider: SessionProvider) -> None:
    """Answer every message, until the other side closes. One model, loaded by the first message."""
    session: Session | None = None
    try:
        while True:
            message, inputs = wire.receive()
            if isinstance(message, Load):
                assert session is None, "a child holds one model"
                session = _load(wire, provider, message)
            elif isinstance(message, Run) and session is not None:
                _run(wire, session, inputs)
            else:
                raise AssertionError(f"a {type(message).__name__} came")
            del message, inputs  # not held until the next ones come
    except WireClosed:
        return


def _load(wire: Wire, provider: SessionProvider, message: Load) -> Session | None:
    try:
        session = provider.load(Path(message.onnx_file), message.options)
    except ModelPackageInvalid as error:
        wire.send(LoadRefused(error.problems))
        return None
    wire.send(Loaded(session.signature, session.device))
    return session


def _run(wire: Wire, session: Session, inputs: Tensors) -> None:
    try:
        heads, body = tensor_heads(session.run(inputs))
    except Exception as error:  # noqa: BLE001 - a session raises anything; the other side judges it
        wire.send(RunRaised(cause_of(error)))
        return
    wire.send(Ran(heads), body)


def end_with_parent(parent: int) -> None:
    """Be killed when the parent dies, even in the middle of a run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this took hold
        os._exit(1)


def main() -> None:
    """Run as a child process."""
    descriptor, parent = map(int, sys.argv[1:])
    end_with_parent(parent)
    # A stop is the parent's affair: what it has accepted is still run here while it drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.stderr is not None:
        faulthandler.enable()  # a native crash leaves its stack on standard error
    serve(Wire(socket.socket(fileno=descriptor)), OnnxSessionProvider())


if __name__ == "__main__":
    main()
