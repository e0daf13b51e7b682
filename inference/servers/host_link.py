"""The server's end of the socket to the host of its jobs: commands and their answers, and the host's rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from inference.job_errors import LedgerUnavailable
from inference.protocols.child_frames import FrameInvalid
from inference.protocols.job_frames import (
    Command,
    Event,
    FindModel,
    Frame,
    FrameReader,
    Refused,
    Reply,
    RunRows,
    Verb,
    Withdraw,
    encoded,
)
from inference.servers.background_feed import BackgroundFeed
from inference.tensor import Tensors

log = logging.getLogger(__name__)

Watch = Callable[[str, bytes], object]
"""Takes the kind and the JSON of an event."""


class HostLink(asyncio.BufferedProtocol):
    """One connection to a host; belongs to the engine's loop. `feed(send)` makes what takes the host's rows."""

    def __init__(self, feed: Callable[[Callable[[list[memoryview]], object]], BackgroundFeed]) -> None:
        self._feed = feed(self._send)
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._numbers = 0
        self._open: dict[int, tuple[asyncio.Future[bytes], Watch | None]] = {}

    @property
    def connected(self) -> bool:
        """Whether the host is there."""
        return self._transport is not None

    def ask(self, verb: Verb, content: bytes, watch: Watch | None = None) -> asyncio.Future[bytes]:
        """The host's reply. Fails with the error that it tells, and with LedgerUnavailable if it is not there.

        `watch` is called with each event that comes before the reply. To cancel the future tells the host.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            future.set_exception(_gone())
            return future
        self._numbers += 1
        number = self._numbers
        self._open[number] = (future, watch)
        future.add_done_callback(lambda done: self._withdraw(number) if done.cancelled() else None)
        self._send(encoded(Command(number, verb, content)))
        return future

    def close(self) -> None:
        """Send what is still to be sent, and end the connection."""
        if self._transport is not None:
            self._transport.close()

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:  # uvloop's is none of asyncio's classes
        """The host is there."""
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes belong."""
        return self._reader.space

    def buffer_updated(self, nbytes: int) -> None:
        """Obey the frame that is whole, if one is."""
        try:
            whole = self._reader.filled(nbytes)
            if whole is not None:
                self._obey(*whole)
        except FrameInvalid as error:
            log.error("the connection to the host of the jobs is closed: %s", error)  # noqa: TRY400 - it says it all
            self._reader = FrameReader()
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The host is gone: nobody waits for its rows, and who waits for it is told."""
        self._transport = None
        self._feed.close()
        waiting = list(self._open.values())
        self._open.clear()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(_gone())

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _obey(self, frame: Frame, tensors: Tensors) -> None:
        if isinstance(frame, RunRows):
            self._feed.begin(frame, tensors)
        elif isinstance(frame, FindModel):
            self._feed.find(frame)
        elif isinstance(frame, Withdraw):
            self._feed.withdraw(frame.number)
        elif isinstance(frame, Event):
            _, watch = self._open.get(frame.number, (None, None))
            if watch is not None:
                watch(frame.kind, frame.content)
        elif isinstance(frame, (Reply, Refused)):
            future, _ = self._open.pop(frame.number, (None, None))
            if future is None or future.done():
                return
            if isinstance(frame, Reply):
                future.set_result(frame.content)
            else:
                future.set_exception(frame.error)
        else:
            raise FrameInvalid(f"a host sends no {type(frame).__name__}")

    def _withdraw(self, number: int) -> None:
        if self._open.pop(number, None) is not None:
            self._send(encoded(Withdraw(number)))

    def _send(self, pieces: list[memoryview]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)


def _gone() -> LedgerUnavailable:
    return LedgerUnavailable("the process that has the jobs is not there")
