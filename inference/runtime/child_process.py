"""One child process that holds a model: started, asked, killed."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from inference.protocols.child_frames import (
    FrameInvalid,
    Load,
    Loaded,
    LoadRefused,
    Message,
    Ran,
    Run,
    RunRaised,
    tensor_heads,
)
from inference.runtime.child_wire import Wire, WireClosed
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors

CHILD_MODULE = "inference.runtime.child_main"
PACKAGE_PARENT = Path(__file__).resolve().parents[2]
END_WAIT_S = 1.0  # from the closing of its socket to the end of a process; one that takes longer is killed


class ChildDied(Exception):
    """The process is gone, or what it says makes no sense any more and it is killed."""


class ChildRaised(Exception):
    """The model's runtime raised in the child, which is well."""


class Child:
    """A child process with a model. One thread at a time asks; `kill` may come from any."""

    def __init__(self, process: subprocess.Popen[bytes], wire: Wire) -> None:
        self._process = process
        self._wire = wire
        self.killed = False  # by us, on purpose

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """A descriptor that `poll` reports as hung up once the process is gone."""
        return self._wire.fileno()

    def load(self, model: str, onnx_file: Path, options: RuntimeSettings) -> Loaded:
        """Load a model, once. Raises ModelPackageInvalid, ChildDied."""
        answer, _ = self._ask(Load(os.fspath(onnx_file), options), [])
        if isinstance(answer, LoadRefused):
            raise ModelPackageInvalid(model, answer.problems)
        if not isinstance(answer, Loaded):
            raise self._nonsense(f"it answers a load with {type(answer).__name__}")
        return answer

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name. Raises ChildRaised, ChildDied."""
        heads, body = tensor_heads(inputs)
        answer, outputs = self._ask(Run(heads), body)
        if isinstance(answer, RunRaised):
            raise ChildRaised(answer.cause)
        if not isinstance(answer, Ran):
            raise self._nonsense(f"it answers a run with {type(answer).__name__}")
        return outputs

    def gone(self) -> bool:
        """Whether the process has closed its end."""
        poll = select.poll()
        poll.register(self._wire.fileno(), 0)
        return bool(poll.poll(0))

    def kill(self) -> None:
        """End the process, whatever it does; who waits for its answer gets ChildDied."""
        self.killed = True
        self._process.kill()

    def ending(self) -> str:
        """How the process ended: "died by SIGSEGV", "ended with status 1", "was stopped" by us.

        Waits for it, and kills one that lingers.
        """
        try:
            status = self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        if self.killed and status == -signal.SIGKILL:
            return "was stopped"
        if status >= 0:
            return f"ended with status {status}"
        try:
            return f"died by {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal has a number and no name
            return f"died by signal {-status}"

    def close(self) -> None:
        """End the process and wait until it is gone. Nobody may be asking."""
        self.kill()
        self._process.wait()
        self._wire.close()

    def _ask(self, message: Message, body: list[memoryview]) -> tuple[Message, Tensors]:
        try:
            self._wire.send(message, body)
            return self._wire.receive()
        except WireClosed as error:
            raise ChildDied(self.ending()) from error
        except FrameInvalid as error:
            raise self._nonsense(str(error)) from error
        except BaseException:  # an answer that is still on its way would be taken for that to the next question
            self.kill()
            raise

    def _nonsense(self, cause: str) -> ChildDied:
        self.kill()
        return ChildDied(f"was killed, since what it sent makes no sense: {cause}")


def start_child() -> Child:
    """A child process without a model.

    It ends with the thread that calls this, so that none is left behind: Linux ties a child to the thread that made it.
    """
    ours, theirs = socket.socketpair()
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([os.fspath(PACKAGE_PARENT), *([known] if known else [])])
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, and two numbers
            [sys.executable, "-m", CHILD_MODULE, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what a library prints there is no part of the server's own output
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, Wire(ours))
