"""One WebSocket connection of a real application whose transport is a list: what a socket would have been told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from uvicorn.server import ServerState

from inference.model import Signature
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.servers.http import App
from inference.servers.stream_socket import StreamSocket
from inference.settings import QueueSettings
from inference.tensor import Tensors, TensorSpec
from tests.inference import tiny_models
from tests.inference.raw_stream import frame, handshake
from tests.inference.servers.test_inference_api_load import served

WINDOW = 4
GOOD = frame(json.dumps({"x": [[1.0]]}))


@dataclass
class Transport:
    """What a socket would have been told, in order."""

    written: bytearray = field(default_factory=bytearray)
    told: list[str] = field(default_factory=list)
    buffered: int = 0
    can_half_close: bool = True
    closing: bool = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def can_write_eof(self) -> bool:
        return self.can_half_close

    def write_eof(self) -> None:
        self.told.append("eof")

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")

    def frames(self) -> list[tuple[int, bytes]]:
        """What was written since the last look."""
        found = []
        while self.written:
            length, start = self.written[1], 2
            if length == 126:
                length, start = int.from_bytes(self.written[2:4], "big"), 4
            found.append((self.written[0] & 15, bytes(self.written[start : start + length])))
            del self.written[: start + length]
        return found


@dataclass
class Connection:
    """A socket with its transport, the list of connections that it enters, and the gate before its model."""

    socket: StreamSocket
    transport: Transport
    state: ServerState
    app: App
    gate: threading.Event

    @property
    def waiting(self) -> int:
        """Messages that the engine has and has not answered; its own canary aside."""
        return sum(request.id.startswith("pred_") for request in self.app.engine._waiters)

    def another(self) -> Connection:
        """One more connection to the same server."""
        return opened(self.app, self.state, self.gate)

    def lose(self) -> None:
        """The caller is gone."""
        self.transport.closing = True
        self.socket.connection_lost(None)

    def receive(self, *frames: bytes) -> None:
        self.socket.data_received(b"".join(frames))

    async def settled(self) -> None:
        """Wait until everything that was begun is answered."""
        await turns()
        await until(lambda: not self.waiting)
        await turns(2)

    async def replies(self, count: int) -> list[Any]:
        """The next replies; other frames may not come."""
        found: list[Any] = []

        def all_there() -> bool:
            found.extend(json.loads(payload) for _, payload in self.transport.frames())
            return len(found) >= count

        await until(all_there)
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Let everything happen that is due."""
    for _ in range(count):
        await asyncio.sleep(0)


def opened(app: App, state: ServerState, gate: threading.Event) -> Connection:
    """A connection after its handshake."""
    transport = Transport()
    socket = StreamSocket(cast("Any", SimpleNamespace(loaded_app=app)), state, {})
    connection = Connection(socket, transport, state, app, gate)
    socket.connection_made(cast("asyncio.Transport", transport))
    connection.receive(handshake("/api/inference/stream?model_name=adder"))
    assert transport.written.startswith(b"HTTP/1.1 101 ")
    transport.written.clear()
    assert socket in state.connections
    return connection


@asynccontextmanager
async def connected(folder: Path, silence_max_s: float = 1e3) -> AsyncIterator[Connection]:
    """An open connection to a model whose runs wait at a gate, which is open at first."""
    gate = threading.Event()
    gate.set()

    def add(inputs: Tensors) -> Tensors:
        gate.wait(10)
        return {"y": inputs["x"] + 1}

    # Without a batch axis no batch size is measured, so that nothing but the requests comes to the session.
    signature = Signature((TensorSpec("x", "FP32", (1, 1)),), (TensorSpec("y", "FP32", (1, 1)),))
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    provider = FunctionSessionProvider({"adder": FunctionSession(signature, add)})
    async with served(folder, provider, QueueSettings()) as app:
        route: Any = app.stream_rows
        app.stream_rows = type(route)(
            route.open, route.begin, route.count_connections, WINDOW, 200_000, 1e6, silence_max_s
        )
        connection = opened(app, ServerState(), gate)
        try:
            yield connection
        finally:
            gate.set()
            connection.lose()
            assert not connection.state.connections
            assert connection.waiting == 0
