"""One WebSocket connection against a transport that is a list: each stage is bounded and stops the one before it."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.server import ServerProtocol

from inference.servers import stream_socket
from inference.servers.stream_socket import PARSE_BYTES, TURN_STEPS, UNREAD_BYTES_MAX, check_origin
from tests.inference.raw_stream import BINARY, CLOSE, PING, PONG, frame
from tests.inference.stream_transport import GOOD, WINDOW, connected, turns, until


@pytest.fixture
def unread_bytes_max(monkeypatch: pytest.MonkeyPatch) -> int:
    """A small bound, so that a test is over soon."""
    monkeypatch.setattr(stream_socket, "UNREAD_BYTES_MAX", 8000)
    return 8000


async def test_the_window_bounds_what_is_begun_and_what_is_parsed(tmp_path: Path, unread_bytes_max: int) -> None:
    count = unread_bytes_max // len(GOOD) + 200
    async with connected(tmp_path) as connection:
        connection.gate.clear()
        for _ in range(count):
            connection.receive(GOOD)
            await turns(1)
        assert connection.waiting == WINDOW
        assert connection.transport.told == ["pause"]  # and a socket would have brought no more
        connection.gate.set()
        assert len(await connection.replies(count)) == count
        assert connection.transport.told == ["pause", "resume"]


async def test_one_read_of_the_smallest_frames_gives_others_their_turn(tmp_path: Path, unread_bytes_max: int) -> None:
    async with connected(tmp_path) as connection:
        connection.receive(frame("") * 3000)
        first = connection.transport.frames()
        assert len(first) <= TURN_STEPS
        assert connection.transport.told == ["pause"]
        await asyncio.sleep(0)
        assert len(connection.transport.frames()) <= TURN_STEPS
        await connection.replies(3000 - 2 * TURN_STEPS)
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
        await until(lambda: "eof" in connection.transport.told)
        assert connection.transport.frames() == [(PING, b"alive?"), (CLOSE, b"\x03\xf3no sign of life")]


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
        await until(lambda: not connection.waiting)
        connection.socket.shutdown()
        connection.receive(GOOD)  # too late: neither begun nor answered
        connection.socket.resume_writing()
        await turns()
        kinds = connection.transport.frames()
        assert [opcode for opcode, _ in kinds] == [1, 1, CLOSE]
        assert kinds[2][1][:2] == (1001).to_bytes(2, "big")
        await until(lambda: "abort" in connection.transport.told)  # the caller never says farewell


async def test_stopping_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_socket, "LINGER_S", 0.0)
    async with connected(tmp_path) as connection:
        connection.receive(GOOD)
        connection.socket.pause_writing()
        connection.socket.shutdown()
        await until(lambda: "abort" in connection.transport.told)


def hostile(random: Random) -> bytes:
    """Frames good and bad, some with a few bits turned, cut off anywhere."""
    kinds = [
        lambda: GOOD,
        lambda: frame(random.randbytes(random.randrange(200)), random.randrange(16), fin=random.random() < 0.8),
        lambda: frame(random.choice(["", "{}", "[", "\ud7ff", '{"x": 1e999}', '{"x": [[1]]}'])),
        lambda: frame(b"{" * random.choice([126, 70_000, 200_001])),
        lambda: random.randbytes(random.randrange(20)),
    ]
    sent = bytearray(b"".join(random.choice(kinds)() for _ in range(random.randrange(1, 30))))
    for _ in range(random.choice([0, 0, 1, 3])):
        sent[random.randrange(len(sent))] ^= 1 << random.randrange(8)
    return bytes(sent[: random.randrange(1, len(sent) + 1)] if random.random() < 0.3 else sent)


async def test_whatever_comes_is_answered_or_closed_with_a_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes: set[int] = set()
    async with connected(tmp_path) as first:
        for seed in range(300):
            random = Random(seed)
            sent = hostile(random)
            connection = first.another()
            while sent:
                cut = random.randrange(1, len(sent) + 1)
                connection.receive(sent[:cut])
                sent = sent[cut:]
                await asyncio.sleep(0)
            await connection.settled()
            ends = [payload for opcode, payload in connection.transport.frames() if opcode == CLOSE]
            assert len(ends) <= 1, f"seed {seed}"
            assert ("eof" in connection.transport.told) == bool(ends), f"seed {seed}"
            codes |= {int.from_bytes(end[:2], "big") for end in ends if end}
            connection.lose()
    assert {1002, 1007, 1009} <= codes
    assert all(1000 <= code < 5000 for code in codes)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


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


def test_what_is_used_of_uvicorn_and_websockets_is_there() -> None:
    """How uvicorn makes a protocol and stops it, and the few attributes of websockets' that its pages do not name."""
    upgrade = inspect.getsource(HttpToolsProtocol.handle_websocket_upgrade)
    assert re.sub(r"\s|#.*", "", upgrade).count("config=self.config,server_state=self.server_state,app_state=") == 1
    assert "connection.shutdown()" in inspect.getsource(uvicorn.Server.shutdown)
    assert (ServerState().connections, ServerState().default_headers) == (set(), [])
    wire = ServerProtocol()
    assert (wire.accept_called, wire.handshake_exc, wire.reader.buffer) == (False, None, bytearray())
    wire.reader.discard()


def test_the_bounds_fit_together() -> None:
    assert PARSE_BYTES < UNREAD_BYTES_MAX
    assert stream_socket.LINGER_S < 2.0  # how long the server waits for its connections
