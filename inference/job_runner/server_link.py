"""The host's end of the socket to its server process: questions and their answers, commands from the other side.

One thread reads (`serve`); any may ask or send. A host that has lost its server ends, so nothing is tried again here.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from inference.decisions.background_band import REQUESTS_MAX
from inference.errors import Stopping
from inference.protocols.child_frames import FrameInvalid
from inference.protocols.job_frames import (
    Command,
    FoundModel,
    Frame,
    FrameReader,
    RanRows,
    Refused,
    Withdraw,
    encoded,
)
from inference.tensor import Tensors

SOCKET_BYTES = 1024 * 1024  # of the kernel's buffer; less makes large tensors go in many small steps
JOINED_BYTES_MAX = 64 * 1024  # smaller frames are joined, for one call of the kernel

Order = Command | Withdraw
Answered = tuple[FoundModel | RanRows, Tensors]


class ServerLink:
    """One socket to the server. `obey` is called in the reading thread for each command, and when nobody waits for its
    answer any more; it must not take long."""

    def __init__(self, end: socket.socket, obey: Callable[[Order], object]) -> None:
        self._socket = end
        self._obey = obey
        self._sending = threading.Lock()
        self._asking = threading.Condition()  # over what follows
        self._numbers = 0
        self._open: dict[int, Future[Answered]] = {}
        self._places = REQUESTS_MAX
        self._closed = False
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)

    @property
    def closed(self) -> bool:
        """True once the server is gone."""
        return self._closed

    def serve(self) -> None:
        """Read until the server is gone; whoever waits then gets Stopping. Raises FrameInvalid for what is no frame."""
        reader = FrameReader()
        try:
            while count := self._received(reader.space):
                whole = reader.filled(count)
                if whole is not None:
                    self._take(*whole)
                del whole  # not held until the next one comes
        finally:
            self._give_up()

    def send(self, pieces: list[memoryview]) -> None:
        """Send a frame. Nothing happens once the server is gone."""
        with self._sending, suppress(OSError):
            if sum(piece.nbytes for piece in pieces) <= JOINED_BYTES_MAX:
                self._socket.sendall(b"".join(pieces))
                return
            for piece in pieces:
                self._socket.sendall(piece)

    def ask(self, question: Callable[[int], list[memoryview]]) -> tuple[int, Future[Answered]]:
        """Send the question that is made with this number. The future fails with the error that the server tells, and
        with Stopping if it goes."""
        future: Future[Answered] = Future()
        with self._asking:
            self._numbers += 1
            number = self._numbers
            if self._closed:
                future.set_exception(Stopping())
                return number, future
            self._open[number] = future
        try:
            self.send(question(number))
        except BaseException:
            with self._asking:
                self._open.pop(number, None)
            raise
        return number, future

    def withdraw(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        with self._asking:
            known = self._open.pop(number, None) is not None
        if known:
            self.send(encoded(Withdraw(number)))

    def take_place(self, unless: Callable[[], bool]) -> bool:
        """Wait for one of the places for rows that the server takes at a time. False if `unless` says so before."""
        with self._asking:
            self._asking.wait_for(lambda: self._places > 0 or unless() or self._closed)
            if unless():
                return False
            self._places -= 1
            return True

    def give_place(self) -> None:
        """A place is free."""
        with self._asking:
            self._places += 1
            self._asking.notify_all()

    def look_again(self) -> None:
        """Who waits for a place asks its `unless` once more."""
        with self._asking:
            self._asking.notify_all()

    def close(self) -> None:
        """End the connection; `serve` returns."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _received(self, space: memoryview) -> int:
        try:
            return self._socket.recv_into(space)
        except OSError:
            return 0

    def _take(self, frame: Frame, tensors: Tensors) -> None:
        if isinstance(frame, (Command, Withdraw)):
            self._obey(frame)
            return
        with self._asking:
            future = self._open.pop(frame.number, None)
        if future is None:
            return  # withdrawn
        with suppress(InvalidStateError):
            if isinstance(frame, Refused):
                future.set_exception(frame.error)
            elif isinstance(frame, (FoundModel, RanRows)):
                future.set_result((frame, tensors))
            else:
                raise FrameInvalid(f"a server sends no {type(frame).__name__}")

    def _give_up(self) -> None:
        with self._asking:
            self._closed = True
            waiting = list(self._open.values())
            self._open.clear()
            self._asking.notify_all()
        self._socket.close()
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(Stopping())
