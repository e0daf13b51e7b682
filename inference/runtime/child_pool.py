"""The child processes of one model: as many as its runners, each with the model loaded, replaced when it dies.

One thread of its own, the keeper, starts them, notices their deaths and starts others in their place; who runs only
takes an idle one and gives it back. The keeper lives as long as the pool, because Linux ends a child with the thread
that made it.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ModelNotReady
from inference.protocols.child_frames import Loaded
from inference.runtime.child_process import Child, ChildDied, start_child
from inference.runtime.session import RunStopped, model_label
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid

log = logging.getLogger(__name__)

RESTART_WAIT_S = (
    0.8  # of a run for a process that comes back: less than the shortest time after which it counts as hung
)
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 30.0


def restart_delay_s(deaths: int) -> float:
    """Wait before the next start after so many deaths without a run in between: none, 0.1, 0.2, 0.4 ... 30 s."""
    return 0.0 if deaths <= 1 else min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2.0 ** min(deaths - 2, 20))


@dataclass(slots=True, eq=False)
class Hold:
    """One caller of the pool, with the process that it holds while it runs."""

    child: Child | None = None
    stopped: bool = False


class ChildPool:
    """Bounds: a process for each seat, and one where there is none; those who wait are runners, a thread each."""

    def __init__(self, onnx_file: Path, options: RuntimeSettings, start: Callable[[], Child] = start_child) -> None:
        self.model = model_label(onnx_file)
        self._onnx_file = onnx_file
        self._options = options
        self._start = start
        self._change = threading.Condition()  # over everything below
        self._children: set[Child] = set()  # loaded, idle or busy
        self._idle: list[Child] = []
        self._hung_up: set[Child] = set()  # busy ones that died; who runs there will say so
        self._lost: list[Child] = []  # dead or doomed, to be closed by the keeper
        self._surplus: list[Child] = []  # no longer wanted, to be closed by the keeper
        self._starting: Child | None = None
        self._loaded: Loaded | None = None  # what the first one said
        self._load_error: ModelPackageInvalid | None = None  # of the first one
        self._seats = 0
        self._deaths = 0  # since the last run that ended
        self._restart_s = 0.0  # earliest time of the next start
        self._why_down = "its process is being started"
        self._closed = False
        self._wake_read, self._wake_write = os.pipe()
        self._keeper = threading.Thread(target=self._keep, name=f"{self.model} keeper", daemon=True)

    def open(self) -> Loaded:
        """Start the first process and load the model. Raises ModelPackageInvalid; the pool is closed then."""
        self._keeper.start()
        with self._change:
            while self._loaded is None and not self._closed:
                self._change.wait()
        if self._loaded is not None:
            return self._loaded
        self.close()
        raise self._load_error or ModelPackageInvalid(self.model, ["it was closed while it was being loaded"])

    @property
    def unready(self) -> str:
        """Why nothing can run now, or "" if a process is there."""
        with self._change:
            if self._closed:
                return "it is closed"
            return "" if self._children else self._why_down

    @property
    def pids(self) -> list[int]:
        """The processes that have the model loaded."""
        with self._change:
            return sorted(child.pid for child in self._children)

    def seat(self, more: int) -> None:
        """So many more seats (fewer, if negative). Their processes come and go in the background."""
        with self._change:
            self._seats += more
            self._wake()

    # ---- who runs ----------------------------------------------------------------------------------------------------

    def take(self, hold: Hold) -> Child:
        """An idle process for this caller.

        Waits while all are busy, and for a short time if none is there. Raises ModelNotReady; RunStopped if the caller
        is stopped; RuntimeError if the pool is closed.
        """
        end_s = time.monotonic() + RESTART_WAIT_S
        with self._change:
            while True:
                if self._closed:
                    raise RuntimeError("the session is closed")
                if hold.stopped:
                    raise RunStopped
                while self._idle:
                    child = self._idle.pop()
                    if not child.gone():
                        hold.child = child
                        return child
                    self._bury(child)
                if self._children:
                    self._change.wait()
                    continue
                now = time.monotonic()
                if now >= end_s or self._restart_s >= end_s:
                    raise ModelNotReady(self.model, "restarting", [self._why_down])
                self._change.wait(end_s - now)

    def give_back(self, hold: Hold) -> None:
        """The caller's run has ended, well or with an error of the model."""
        with self._change:
            child, hold.child = hold.child, None
            assert child is not None, "only a process that was taken is given back"
            self._deaths = 0
            if self._closed or child.killed or child in self._hung_up:
                self._bury(child)
            else:
                self._idle.append(child)
                self._change.notify()
                if len(self._children) > max(1, self._seats):
                    self._wake()

    def give_up(self, hold: Hold) -> None:
        """The caller's process died, or is in the middle of something and has to."""
        with self._change:
            child, hold.child = hold.child, None
            assert child is not None, "only a process that was taken is given up"
            self._bury(child)

    def stop(self, hold: Hold) -> None:
        """End the caller's run by ending its process, or its wait for one."""
        with self._change:
            hold.stopped = True
            if hold.child is not None:
                hold.child.kill()
            self._change.notify_all()

    def close(self) -> None:
        """End all processes. Who waits or runs gets an error."""
        with self._change:
            self._closed = True
            for child in (*self._children, *([self._starting] if self._starting else [])):
                child.kill()
            self._wake()
            self._change.notify_all()
        if self._keeper.ident is not None:
            self._keeper.join()

    # ---- the keeper --------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            while self._tend():
                pass
        except Exception:  # a fault of ours: the processes end with this thread, so nobody may wait for them
            log.exception("model %s: nobody keeps its processes any more", self.model)
        with self._change:  # from here on nobody wakes the keeper, and who holds a process closes it
            self._closed = True
            os.close(self._wake_write)
            self._wake_write = -1
            self._trim()
            rest = [*self._lost, *self._surplus]
            self._change.notify_all()
        os.close(self._wake_read)
        for child in rest:
            child.close()

    def _tend(self) -> bool:
        """Close what is to be closed, start what is missing, or wait. False at the end."""
        with self._change:
            self._trim()
            lost, surplus = [*self._lost], [*self._surplus]
            closed = self._closed
            missing = len(self._children) < max(1, self._seats)
            wait_s = max(0.0, self._restart_s - time.monotonic()) if missing else None
        for child in lost:
            self._report(child)
        for child in surplus:
            child.close()
            self._surplus.remove(child)
        if closed:
            return False
        if wait_s == 0.0:
            self._start_one()
        else:
            self._wait(wait_s)
        return True

    def _start_one(self) -> None:
        """Start a process, load the model and offer it; or note why not, and when to try again."""
        child: Child | None = None
        error: ModelPackageInvalid | None = None
        loaded: Loaded | None = None
        try:
            child = self._start()
            with self._change:
                self._starting = child
                if self._closed:
                    child.kill()
            loaded = child.load(self.model, self._onnx_file, self._options)
            if self._loaded is not None and loaded.signature != self._loaded.signature:
                error = ModelPackageInvalid(self.model, ["model.onnx: it has another signature than at the start"])
        except ModelPackageInvalid as refusal:
            error = refusal
        except ChildDied as death:
            error = ModelPackageInvalid(self.model, [f"model.onnx: the process that loads it {death}"])
        except Exception as fault:  # whatever it is, such as no memory for a process, the next attempt may go well
            log.exception("model %s: its process cannot be started", self.model)
            error = ModelPackageInvalid(self.model, [f"its process cannot be started: {fault}"])
        if error is not None and child is not None:
            child.close()
        with self._change:
            self._starting = None
            if error is None and child is not None:
                self._loaded = self._loaded or loaded
                self._children.add(child)
                self._idle.append(child)
            elif self._loaded is None:
                self._load_error, self._closed = error, True
            else:
                log.error("%s", error)
                self._fall("; ".join(error.problems) if error else "")
            self._change.notify_all()

    def _wait(self, wait_s: float | None) -> None:
        """Until something is to be done: the keeper is woken, a process died, or the time is over."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        with self._change:
            watched = {child.fileno(): child for child in self._children - self._hung_up}
        for descriptor in watched:
            poll.register(descriptor, 0)  # a hang-up is always told
        told = {descriptor for descriptor, _ in poll.poll(None if wait_s is None else wait_s * 1000 + 1)}
        if self._wake_read in told:
            os.read(self._wake_read, 4096)
        with self._change:
            for child in [child for descriptor, child in watched.items() if descriptor in told]:
                if child in self._idle:
                    self._idle.remove(child)
                    self._bury(child)
                elif child in self._children:
                    self._hung_up.add(child)

    def _report(self, child: Child) -> None:
        """Close a dead process and say how it ended."""
        ending = child.ending()
        child.close()
        log.error("model %s: its process %d %s", self.model, child.pid, ending)
        with self._change:
            self._lost.remove(child)
            self._why_down = f"its process {ending}"

    # ---- under the lock ----------------------------------------------------------------------------------------------

    def _bury(self, child: Child) -> None:
        """Take a dead or doomed process out; the keeper closes it and starts another."""
        self._children.discard(child)
        self._hung_up.discard(child)
        if self._wake_write < 0:
            child.close()
            return
        self._lost.append(child)
        self._fall("its process died")
        self._change.notify_all()
        self._wake()

    def _fall(self, why: str) -> None:
        self._deaths += 1
        self._why_down = why
        self._restart_s = time.monotonic() + restart_delay_s(self._deaths)

    def _trim(self) -> None:
        """Take out idle processes beyond one a seat, or all at the end."""
        kept = 0 if self._closed else max(1, self._seats)
        while self._idle and len(self._children) > kept:
            child = self._idle.pop()
            self._children.remove(child)
            self._surplus.append(child)

    def _wake(self) -> None:
        if self._wake_write >= 0:
            os.write(self._wake_write, b"w")
