"""The server's life: serve, and stop without losing what was accepted."""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from inference.engine import Engine
from inference.servers.fast_route import HttpProtocol
from inference.servers.http import App
from inference.servers.stream_socket import StreamSocket
from inference.settings import ServerSettings

log = logging.getLogger(__name__)

CLOSE_LIMIT_S = 2.0  # for responses that are still being written after the last answer


class Server(uvicorn.Server):
    """uvicorn's server, which on the first signal answers what was accepted before it closes its listeners."""

    def __init__(self, app: App, engine: Engine, settings: ServerSettings) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
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
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drain_then_exit())
        else:
            log.warning("second signal: stopping at once")
            self.should_exit = self.force_exit = True

    async def _drain_then_exit(self) -> None:
        log.info("stopping: %d accepted requests are being answered", self._engine.waiting_callers)
        if not await self._engine.drain(self._drain_limit_s):
            log.error("the drain limit of %g s has passed; requests without an answer were told", self._drain_limit_s)
        self.should_exit = True
