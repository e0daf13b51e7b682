"""A server process among several: takes its orders from the parent, tells it how it does, and ends when it is gone.

The parent's end of the channel closes when the parent dies, however it dies, so nothing else has to watch it. Orders
come in a thread of their own: a process whose loop hangs still ends when its parent has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference.protocols.process_orders import (
    MESSAGE_BYTES_MAX,
    Alive,
    Orders,
    Report,
    StopOrder,
    decoded_order,
    encoded,
)

if TYPE_CHECKING:  # models begin to load before the HTTP modules are imported
    from inference.model_manager import ModelManager
    from inference.servers.lifecycle import Server

log = logging.getLogger(__name__)

ALIVE_INTERVAL_S = 1.0
ORPHAN_MARGIN_S = 10.0  # beyond the drain limit, for a process whose parent is gone
LOADED_LIMIT_S = 30.0  # for the models of a replacement; until then its siblings take the connections
LOOK_S = 0.02  # between two looks whether they are loaded
EXIT_ORPHANED = 3


class Member:
    """This process's side of the channel. `start` belongs to the loop's thread."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        first = decoded_order(channel.recv(MESSAGE_BYTES_MAX))
        assert isinstance(first, Orders), "a process is told first what it is to be"
        self.orders = first
        self.orphaned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[bool], None] | None = None
        self._stop_order: StopOrder | None = None

    def start(self) -> None:
        """Obey the parent from here on, and tell it every second that the loop turns."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._obey, name="parent", daemon=True).start()
        self._tell_alive()

    def tell(self, report: Report) -> None:
        """Send a report; a parent that does not read is not waited for."""
        with contextlib.suppress(OSError):
            self._channel.send(encoded(report), socket.MSG_DONTWAIT)

    async def when_loaded(self, models: ModelManager) -> None:
        """Wait until every load has ended, at most LOADED_LIMIT_S, or until this process is told to stop."""
        assert self._loop is not None
        end_s = self._loop.time() + LOADED_LIMIT_S
        while self._stop_order is None and self._loop.time() < end_s:
            if all(status.state != "loading" for status in models.index()):
                return
            await asyncio.sleep(LOOK_S)

    async def serve(self, server: Server, listener: socket.socket) -> None:
        """Serve until the parent, or a signal, says stop."""

        def stop(hurry: bool) -> None:
            server.stop(hurry=hurry)

        self._stop = stop
        if self._stop_order is None:
            await server.serve([listener])

    def tidy_up(self) -> None:
        """Take away what the parent cannot any more; the last process takes the folder."""
        if not self.orphaned:
            return
        folder = Path(self.orders.folder)
        for path in folder.glob(f"{self.orders.process}.*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process still has its socket there
            folder.rmdir()

    def _tell_alive(self) -> None:
        assert self._loop is not None
        self.tell(Alive())
        self._loop.call_later(ALIVE_INTERVAL_S, self._tell_alive)

    def _obey(self) -> None:
        while True:
            try:
                message = self._channel.recv(MESSAGE_BYTES_MAX)
            except OSError:
                message = b""
            if not message:
                self._end_without_parent()
                return
            order = decoded_order(message)
            if isinstance(order, StopOrder):
                self._pass_on(order)

    def _end_without_parent(self) -> None:
        log.error("the parent is gone: stopping")
        self.orphaned = True
        self._pass_on(StopOrder())
        time.sleep(self.orders.settings.server.drain_limit_s + ORPHAN_MARGIN_S)
        os._exit(EXIT_ORPHANED)  # the loop hangs

    def _pass_on(self, order: StopOrder) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends already
            self._loop.call_soon_threadsafe(self._stop_now, order)

    def _stop_now(self, order: StopOrder) -> None:
        self._stop_order = order
        if self._stop is not None:
            self._stop(order.hurry)
