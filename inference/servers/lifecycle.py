"""The server's life: serve, and stop without losing what was accepted."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from inference.engine import Engine
from inference.servers.connection import Connection
from inference.servers.connections import ConnectionLimits, Connections
from inference.servers.fast_route import FastConnection
from inference.servers.http import App
from inference.servers.listener import descriptors_for
from inference.servers.stream_socket import StreamSocket
from inference.settings import ServerSettings

log = logging.getLogger(__name__)

CLOSE_LIMIT_S = 2.0  # for responses that are still being written after the last answer

Drain = Callable[[float], Awaitable[bool]]
"""Takes nothing new and waits for what is under way, at most so many seconds. False if something is left."""


class Server(uvicorn.Server):
    """uvicorn's server, which on the first signal answers what was accepted before it closes its listeners."""

    def __init__(self, app: App, engine: Engine, settings: ServerSettings, drains: Sequence[Drain] = ()) -> None:
        limits = ConnectionLimits.of(settings, descriptors_for(settings.connections_max))
        connection = FastConnection if settings.fast_route else Connection
        protocol: Any = partial(
            connection, all_connections=Connections(limits, app.rounds.heard)
        )  # uvicorn only ever calls it
        config = uvicorn.Config(
            app,
            http=protocol,
            proxy_headers=False,
            ws=StreamSocket,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=int(CLOSE_LIMIT_S),
        )
        super().__init__(config)
        self._engine = engine
        self._drains = (engine.drain, *drains)
        self._drain_limit_s = settings.drain_limit_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal has been obeyed."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain, then close. Second signal: close at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop_serving)

    def _stop_serving(self) -> None:
        if self._drain is not None:
            log.warning("second signal: stopping at once")
        self.stop(hurry=self._drain is not None)

    def stop(self, *, hurry: bool = False) -> None:
        """Answer what was accepted, then close; with `hurry` close at once."""
        if hurry:
            self.should_exit = self.force_exit = True
        elif self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drain_then_exit())

    async def _drain_then_exit(self) -> None:
        log.info("stopping: %d accepted requests are being answered", self._engine.waiting_callers)
        if not all(await asyncio.gather(*(drain(self._drain_limit_s) for drain in self._drains))):
            log.error("the drain limit of %g s has passed; requests without an answer were told", self._drain_limit_s)
        self.should_exit = True


class MemberServer(Server):
    """A server that ends when its parent says so; a signal that came to all processes is obeyed once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then close, however often it is said. Hurry comes over the channel alone."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop)
