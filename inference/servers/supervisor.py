"""The parent of several server processes on one port: starts them, watches them, replaces them, stops them.

Each process has a listener of its own on the port (SO_REUSEPORT), and the kernel gives each connection to one of them.
The parent holds the port, answers nobody, and loads neither models nor a loop; what is decided is in
`decisions.process_watch`.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec

from inference.decisions.process_watch import Decision, Kill, ProcessWatch, Start, Stop, WatchPolicy
from inference.protocols.process_orders import (
    MESSAGE_BYTES_MAX,
    CannotStart,
    Orders,
    Serving,
    StopOrder,
    decoded_report,
    encoded,
)
from inference.servers.listener import reserve
from inference.settings import Settings
from inference.start_errors import StartError

log = logging.getLogger(__name__)

CHILD_MODULE = "inference.streaming_predictor"
STOP_MARGIN_S = 10.0  # beyond the drain limit: responses are written, runners and sessions are closed
FOLDER_CHARS_MAX = 90  # the system takes 107 for the path of a socket in it
SHORT_FOLDER = "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own in it, for its user alone
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Announce = Callable[[int, Sequence[str]], None]
"""Called once, with the port and the names of the models, when every process listens."""


@dataclass
class _Child:
    """One process, and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


def supervise(settings: Settings, announce: Announce) -> None:
    """Serve with `server.processes` processes until a signal comes. Raises StartError."""
    reserved = reserve(settings.server.host, settings.server.port)
    folder = _private_folder()
    try:
        Supervisor(settings, reserved.getsockname()[1], folder, announce).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        reserved.close()


class Supervisor:
    """The parent's loop: signals, reports and ends of processes in, starts and stops out."""

    def __init__(self, settings: Settings, port: int, folder: str, announce: Announce) -> None:
        self._settings = settings_of_a_process(settings, port)
        self._processes = settings.server.processes
        self._port = port
        self._folder = folder
        self._announce = announce
        stop_limit_s = settings.server.drain_limit_s + STOP_MARGIN_S
        self._watch = ProcessWatch(self._processes, WatchPolicy(stop_limit_s=stop_limit_s))
        self._children: dict[int, _Child] = {}
        self._serving: set[int] = set()
        self._announced = False
        self._cannot_start = ""
        self._signals: list[int] = []
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Until a signal has been obeyed. Raises StartError when the first processes cannot start."""
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        before = {number: signal.signal(number, self._on_signal) for number in (*SIGNALS, signal.SIGCHLD)}
        fd_before = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ)
        try:
            self._obey(self._watch.begin(time.monotonic()))
            while not self._watch.finished:
                self._turn(wake)
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._leave_nobody_behind()
            self._selector.close()
            wake.close()
            woken.close()
        log.info("stopped")
        if self._cannot_start:
            raise StartError(self._cannot_start)

    def _turn(self, wake: socket.socket) -> None:
        deadline_s = self._watch.next_deadline()
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is wake:
                wake.recv(4096)
            else:
                self._read(key.data)
        while self._signals:
            number = self._signals.pop(0)
            if number in SIGNALS:
                log.info("%s: stopping", signal.Signals(number).name)
                self._obey(self._watch.stop(time.monotonic(), hurry=self._watch.stopping))
        for place, child in list(self._children.items()):
            if child.process.poll() is not None:
                self._read_all(place)
                self._ended(place, child)
        self._obey(self._watch.tick(time.monotonic()))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs in the middle of anything, so it only takes note; the wake-up has the loop look."""
        self._signals.append(number)

    # ---- obeying -----------------------------------------------------------------------------------------------------

    def _obey(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Start):
                self._start(decision)
            elif isinstance(decision, Stop):
                self._send(decision.place, encoded(StopOrder(decision.hurry)))
            elif isinstance(decision, Kill):
                child = self._children[decision.place]
                log.error("process %d (pid %d) is killed: %s", decision.place, child.process.pid, decision.reason)
                child.process.kill()

    def _start(self, start: Start) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", CHILD_MODULE, "--child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal comes to the parent alone, which passes it on once
            )
        except OSError as error:  # no memory or no process left; there may be, later
            ours.close()
            delay_s = self._watch.ended(start.place, time.monotonic())
            log.error("process %d cannot be started: %s; next try in %s s", start.place, error, delay_s)  # noqa: TRY400 - a traceback adds nothing
            return
        finally:
            theirs.close()
        self._children[start.place] = _Child(process, ours)
        self._selector.register(ours, selectors.EVENT_READ, start.place)
        orders = Orders(self._settings, start.place, self._processes, self._folder, start.restarts)
        self._send(start.place, encoded(orders))

    def _send(self, place: int, message: bytes) -> None:
        try:
            self._children[place].channel.send(message)
        except OSError as error:
            log.debug("process %d takes no orders any more: %s", place, error)

    # ---- what processes say, and their end ---------------------------------------------------------------------------

    def _read(self, place: int) -> bool:
        """Obey one report. False when there is none."""
        child = self._children[place]
        try:
            message = child.channel.recv(MESSAGE_BYTES_MAX)
        except OSError:
            return False
        if not message:  # it is ending
            self._forget_channel(child)
            return False
        self._watch.heard(place, time.monotonic())
        report = decoded_report(message)
        if isinstance(report, Serving):
            self._serves(place, report.models)
        elif isinstance(report, CannotStart):
            self._fails(place, report.reason)
        return True

    def _read_all(self, place: int) -> None:
        while self._read(place):
            pass

    def _serves(self, place: int, models: Sequence[str]) -> None:
        self._serving.add(place)
        log.info("process %d (pid %d) serves", place, self._children[place].process.pid)
        if not self._announced and len(self._serving) == self._processes:
            self._announced = True
            self._announce(self._port, models)

    def _fails(self, place: int, reason: str) -> None:
        """Before anything is served, what one process meets all would; later the others go on."""
        if self._announced:
            log.error("process %d cannot start: %s", place, reason)
        elif not self._cannot_start:
            self._cannot_start = reason
            self._obey(self._watch.stop(time.monotonic()))

    def _ended(self, place: int, child: _Child) -> None:
        self._forget_channel(child)
        del self._children[place]
        delay_s = self._watch.ended(place, time.monotonic())
        if delay_s is not None:
            how = how_it_ended(child.process.returncode)
            log.error("process %d (pid %d) %s; another starts in %g s", place, child.process.pid, how, delay_s)

    def _forget_channel(self, child: _Child) -> None:
        if child.channel.fileno() >= 0:
            self._selector.unregister(child.channel)
            child.channel.close()

    def _leave_nobody_behind(self) -> None:
        """Only an error of ours leaves anybody here."""
        for child in self._children.values():
            child.process.kill()
            child.process.wait()
            self._forget_channel(child)


def settings_of_a_process(settings: Settings, port: int) -> Settings:
    """The settings of each process: the port that was found, and its share of the cores."""
    processes = settings.server.processes
    cores = settings.scaling.cores or max(1, len(os.sched_getaffinity(0)) // processes)
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(settings.server, port=port),
        scaling=msgspec.structs.replace(settings.scaling, cores=cores),
    )


def how_it_ended(status: int) -> str:
    """The exit status of a process in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def _private_folder() -> str:
    """A folder that only this user opens, with a name that is short enough for sockets."""
    folder = tempfile.mkdtemp(prefix="glassai-")
    if len(folder) <= FOLDER_CHARS_MAX:
        return folder
    Path(folder).rmdir()
    return tempfile.mkdtemp(prefix="glassai-", dir=SHORT_FOLDER)
