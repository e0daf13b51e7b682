"""A model that runs in child processes: what crashes there harms no other model, and what hangs there can be killed.

A run costs two hops between processes more than in a thread, and each process holds the model and ONNX Runtime anew.
"""

from __future__ import annotations

from pathlib import Path

from inference.device import Device
from inference.errors import RunCrashed
from inference.model import Signature
from inference.protocols.child_frames import Loaded
from inference.runtime.child_pool import ChildPool, Hold
from inference.runtime.child_process import ChildDied, ChildRaised
from inference.runtime.session import RunStopped
from inference.settings import RuntimeSettings
from inference.tensor import Tensors


class ChildSession:
    """A model in child processes, one for each seat. Runs beyond their number wait for one another."""

    def __init__(self, pool: ChildPool, loaded: Loaded) -> None:
        self._pool = pool
        self._loaded = loaded

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self._loaded.signature

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._loaded.device

    bounded = False  # the run is in another process, which can hang

    @property
    def unready(self) -> str:
        """See Session."""
        return self._pool.unready

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return self._pool.pids

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name; see Session."""
        return _run(self._pool, Hold(), inputs)

    def seat(self) -> ChildSeat:
        """See Session."""
        return ChildSeat(self._pool)

    def close(self) -> None:
        """End the processes."""
        self._pool.close()


class ChildSeat:
    """A seat at a model in child processes. To stop a run is to kill its process; another is started."""

    def __init__(self, pool: ChildPool) -> None:
        self._pool = pool
        self._hold = Hold()
        pool.seat(1)

    def run(self, inputs: Tensors) -> Tensors:
        """See Seat."""
        return _run(self._pool, self._hold, inputs)

    def stop(self) -> None:
        """See Seat."""
        self._pool.stop(self._hold)

    def reset(self) -> None:
        """See Seat."""
        self._hold.stopped = False

    def close(self) -> None:
        """See Seat."""
        self._pool.seat(-1)


def _run(pool: ChildPool, hold: Hold, inputs: Tensors) -> Tensors:
    child = pool.take(hold)
    try:
        outputs = child.run(inputs)
    except ChildRaised:
        pool.give_back(hold)
        raise
    except BaseException as error:
        pool.give_up(hold)
        if hold.stopped:
            raise RunStopped from error
        if isinstance(error, ChildDied):
            raise RunCrashed(pool.model, f"the process that ran it {error}") from error
        raise
    pool.give_back(hold)
    return outputs


class ChildSessionProvider:
    """Loads ONNX files into child processes."""

    def load(self, onnx_file: Path, options: RuntimeSettings) -> ChildSession:
        """A session of this file. Raises ModelPackageInvalid, as OnnxSessionProvider does."""
        pool = ChildPool(onnx_file.absolute(), options)
        return ChildSession(pool, pool.open())
