"""A child in memory: the same frames and the same loop as in a child process, in a thread, so it starts at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from inference.model import Signature
from inference.runtime.child_main import serve
from inference.runtime.child_process import Child
from inference.runtime.child_wire import Wire
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.tensor import Tensors, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
FILE = Path("/models/tiny/1/model.onnx")


def until_busy(pid: int, ticks: int = 3) -> None:
    """Until a process that idled has computed for so many hundredths of a second."""
    before = _ticks(pid)
    while _ticks(pid) < before + ticks:
        os.sched_yield()


def _ticks(pid: int) -> int:
    """Processor time in user mode, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


class ThreadProcess:
    """What `subprocess.Popen` has and Child uses. Killed, it closes its socket, as the kernel does."""

    pids = iter(range(1_000_000, 2_000_000))

    def __init__(self, theirs: socket.socket) -> None:
        self.pid = next(self.pids)
        self.status: int | None = None
        self._theirs = theirs
        self._ended = threading.Event()

    def die(self, number: int) -> None:
        """End by this signal."""
        if self.status is None:
            self.status = -number
            self._theirs.shutdown(socket.SHUT_RDWR)  # wakes who waits for it, which closing alone does not
            self._theirs.close()
            self._ended.set()

    def kill(self) -> None:
        """End by SIGKILL."""
        self.die(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The status, once it has ended."""
        assert self._ended.wait(timeout if timeout is not None else 10)
        assert self.status is not None
        return self.status


class Twins:
    """Starts children in memory that answer with `function`, and keeps them in the order of their starts."""

    def __init__(self, function: Callable[[Tensors], Tensors], signature: Signature = SIGNATURE) -> None:
        self.processes: list[ThreadProcess] = []
        self.signature = signature
        self._function = function

    def start(self) -> Child:
        """A child without a model, as `start_child`."""
        ours, theirs = socket.socketpair()
        process = ThreadProcess(theirs)
        self.processes.append(process)
        provider = FunctionSessionProvider({"tiny": FunctionSession(self.signature, self._function)})

        threading.Thread(target=serve, args=(Wire(theirs), provider), daemon=True).start()
        return Child(cast(Any, process), Wire(ours))
