"""One WebSocket connection against a transport that is a list: each stage is bounded and stops the one before it."""

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

import pytest
from uvicorn.server import ServerState

from inference.model import Signature
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.servers import stream_socket
from inference.servers.http import App
from inference.servers.stream_socket import PARSE_BYTES, TURN_STEPS, UNREAD_BYTES_MAX, StreamSocket, check_origin
from inference.settings import QueueSettings
from inference.tensor import Tensors, TensorSpec
from tests.inference import tiny_models
from tests.inference.raw_stream import BINARY, CLOSE, PING, PONG, frame, handshake
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

    def receive(self, *frames: bytes) -> None:
        self.socket.data_received(b"".join(frames))

    async def replies(self, count: int) -> list[Any]:
        """The next replies; other frames may not come."""
        found: list[Any] = []
        while len(found) < count:
            await asyncio.sleep(0)
            found += [json.loads(payload) for _, payload in self.transport.frames()]
        return found


async def turns(count: int = 50) -> None:
    """Let everything happen that is due."""
    for _ in range(count):
        await asyncio.sleep(0)


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
        state = ServerState()
        config = cast("Any", SimpleNamespace(loaded_app=app))
        transport = Transport()
        connection = Connection(StreamSocket(config, state, {}), transport, state, app, gate)
        connection.socket.connection_made(cast("asyncio.Transport", transport))
        connection.receive(handshake("/api/inference/stream?model_name=adder"))
        assert transport.written.startswith(b"HTTP/1.1 101 ")
        transport.written.clear()
        assert connection.socket in state.connections
        try:
            yield connection
        finally:
            gate.set()
            transport.closing = True
            connection.socket.connection_lost(None)
            assert not state.connections
            assert connection.waiting == 0


async def test_the_window_bounds_what_is_begun_and_what_is_parsed(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.gate.clear()
        for _ in range(40):
            connection.receive(GOOD * 100)
            await turns(3)
        assert connection.waiting == WINDOW
        assert connection.transport.told == ["pause"]  # and a socket would have brought no more
        connection.gate.set()
        assert len(await connection.replies(4000)) == 4000
        assert connection.transport.told == ["pause", "resume"]


async def test_one_read_of_the_smallest_frames_gives_others_their_turn(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.receive(frame("") * 16_000)
        first = connection.transport.frames()
        assert len(first) <= TURN_STEPS
        assert connection.transport.told == ["pause"]
        await asyncio.sleep(0)
        assert len(connection.transport.frames()) <= TURN_STEPS
        await connection.replies(16_000 - 2 * TURN_STEPS)
        assert connection.transport.told == ["pause", "resume"]


async def test_who_does_not_read_gets_no_more_to_read(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.socket.pause_writing()
        connection.receive(GOOD * 2)
        for _ in range(40):
            connection.receive(frame(b"?", PING) * 500)
            await turns(3)
        assert connection.transport.frames() == []
        assert connection.transport.told == ["pause"]
        connection.socket.resume_writing()
        await turns(200)
        kinds = [opcode for opcode, _ in connection.transport.frames()]
        assert (kinds.count(PONG), len(kinds)) == (40 * 500, 40 * 500 + 2)
        assert connection.transport.told == ["pause", "resume"]


async def test_a_farewell_is_seen_behind_a_full_window(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.gate.clear()
        connection.receive(GOOD * (WINDOW + 2))
        await turns()
        assert connection.waiting == WINDOW
        connection.receive(frame(b"\x03\xe8", CLOSE))
        assert connection.waiting == 0
        assert connection.transport.frames() == [(CLOSE, b"\x03\xe8")]
        assert connection.transport.told == ["eof"]
        connection.receive(GOOD)  # means nothing any more
        await turns()
        assert connection.transport.frames() == []


async def test_a_large_message_counts_among_the_bodies_of_the_server(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        receiving: Any = connection.socket._receiving
        large = frame(b"x" * 150_000, BINARY, fin=False) + frame(b"x" * 40_000, 0, fin=False)
        connection.receive(large)
        await turns()
        assert receiving.bytes == 190_000
        connection.receive(frame(b"x", 0))
        await turns()
        assert receiving.bytes == 0
        assert [json.loads(payload)["reason"] for _, payload in connection.transport.frames()] == [
            "unsupported_media_type"
        ]
        receiving.bytes_max = 100_000
        connection.receive(large)
        await turns()
        assert connection.transport.frames()[0][1][:2] == (1013).to_bytes(2, "big")
        assert receiving.bytes == 0


async def test_a_ping_without_an_answer_ends_it(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        beat: Callable[[], None] = connection.socket._beat
        beat()
        assert connection.transport.frames() == [(PING, b"alive?")]
        connection.receive(frame(b"alive?", PONG))
        beat()
        connection.receive(GOOD[:3])  # any byte is a sign of life
        beat()
        assert [opcode for opcode, _ in connection.transport.frames()] == [PING, PING]
        beat()
        assert connection.transport.frames()[0][1][:2] == (1011).to_bytes(2, "big")
        assert connection.transport.told == ["eof"]


async def test_pings_go_out_by_themselves(tmp_path: Path) -> None:
    async with connected(tmp_path, 0.01) as connection:
        while (CLOSE, b"\x03\xf3no sign of life") not in (frames := connection.transport.frames()):
            assert frames in ([], [(PING, b"alive?")])
            await asyncio.sleep(0.001)


async def test_who_reads_slowly_lives_and_who_stops_reading_does_not(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        beat = connection.socket._beat
        connection.socket.pause_writing()
        for connection.transport.buffered in (100_000, 90_000, 80_000):
            beat()
        assert connection.transport.frames() == []  # not even pings, which would pile up
        beat()
        assert connection.transport.frames()[0][1][:2] == (1011).to_bytes(2, "big")


async def test_who_is_held_back_by_us_is_not_blamed(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.gate.clear()
        connection.receive(GOOD * 10_000)
        await turns()
        assert connection.transport.told == ["pause"]
        for _ in range(5):
            connection.socket._beat()
        assert {opcode for opcode, _ in connection.transport.frames()} == {PING}


async def test_a_message_has_to_come_to_its_end(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        route: Any = connection.socket._route
        connection.socket._route = type(route)(
            route.open, route.begin, route.count_connections, WINDOW, 200_000, 60.0, 20.0
        )
        connection.receive(GOOD, GOOD[:8])
        for byte in GOOD[8:12]:
            connection.transport.written.clear()
            connection.socket._beat()
            connection.receive(bytes([byte]))  # alive, but never done
        assert connection.transport.frames()[0][1][:2] == (1008).to_bytes(2, "big")


async def test_stopping_waits_for_who_has_yet_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_socket, "LINGER_S", 0.0)
    async with connected(tmp_path) as connection:
        connection.receive(GOOD, GOOD)
        connection.socket.pause_writing()
        while connection.waiting:
            await asyncio.sleep(0)
        connection.socket.shutdown()
        connection.receive(GOOD)  # too late: neither begun nor answered
        connection.socket.resume_writing()
        await turns()
        kinds = connection.transport.frames()
        assert [opcode for opcode, _ in kinds] == [1, 1, CLOSE]
        assert kinds[2][1][:2] == (1001).to_bytes(2, "big")
        while "abort" not in connection.transport.told:  # the caller never says farewell
            await asyncio.sleep(0)


async def test_stopping_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_socket, "LINGER_S", 0.0)
    async with connected(tmp_path) as connection:
        connection.receive(GOOD)
        connection.socket.pause_writing()
        connection.socket.shutdown()
        while "abort" not in connection.transport.told:
            await asyncio.sleep(0)


async def test_a_transport_that_cannot_half_close_is_closed(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        connection.transport.can_half_close = False
        connection.receive(frame(b"\x03\xe8", CLOSE))
        assert connection.transport.told == ["close"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [(None, b"a:1"), (b"http://a:1", b"a:1"), (b"https://A:1", b"a:1"), (b"http://[::1]:8000", b"[::1]:8000")],
)
def test_pages_of_the_host_itself_are_welcome(origin: bytes | None, host: bytes) -> None:
    check_origin(origin, host)


def test_the_bounds_fit_together() -> None:
    assert PARSE_BYTES < UNREAD_BYTES_MAX
    assert stream_socket.LINGER_S < 2.0  # how long the server waits for its connections
