"""A refusal by headers alone, on both routes: before the body is read, and a small body does not end the connection."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from inference.engine import Engine
from inference.errors import InferenceError, QueueFull
from inference.monitoring.logs import PredictionLog
from inference.servers.connection import Connection
from inference.servers.connections import ConnectionLimits, Connections
from inference.servers.exchange import UNREAD_BYTES_MAX, Exchange, Pending, Response
from inference.servers.fast_route import FastConnection
from inference.servers.http import STREAM_PATH, App, PredictRoute
from inference.settings import LoggingSettings, ServerSettings
from tests.inference.live_server import Reply
from tests.inference.raw_http import head, read_answer, wire

FULL = QueueFull("adder/1", "rows", 9, 9, 1.0)
SERVER = ServerSettings()
HURRIED = "x-timeout-ms: 1"
Counted = list[tuple[str, str, int, str]]
begun: list[bytes] = []


def refuse_the_hurried(exchange: Exchange) -> InferenceError | None:
    return FULL if exchange.header(b"x-timeout-ms") else None


async def read(exchange: Exchange) -> Response:
    return Response(200, b'{"bytes":%d}' % len(await exchange.body()))


def begin(exchange: Exchange, body: bytes) -> Pending | None:
    begun.append(body)
    return None  # the handler answers all


ROUTE = PredictRoute(STREAM_PATH, read, begin, refuse_the_hurried)


@asynccontextmanager
async def served(
    connection: type[Connection], route: PredictRoute = ROUTE, engine: Engine | None = None
) -> AsyncIterator[tuple[int, Counted]]:
    """The port of a server whose predict route refuses those in a hurry, and what it counts."""
    counted: Counted = []
    rows: Any = None
    app: Any = App(
        engine or Engine(),
        stream=route,
        stream_rows=rows,
        infer=route,
        pages=[],
        body_bytes_max=4 * UNREAD_BYTES_MAX,
        receiving_bytes_max=UNREAD_BYTES_MAX + 1,
        observe=lambda *seen: counted.append(seen),
        predictions=PredictionLog(LoggingSettings()),
    )
    config = uvicorn.Config(app, proxy_headers=False, ws="none", lifespan="off", log_config=None)
    config.load()
    all_connections = Connections(ConnectionLimits.of(SERVER, 100))
    loop = asyncio.get_running_loop()
    made: list[Connection] = []

    def protocol() -> Connection:
        made.append(connection(config, ServerState(), {}, loop, all_connections=all_connections))
        return made[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], counted
    finally:
        server.close()
        for open_or_closed in made:  # that a caller has left may not have been noticed yet
            open_or_closed.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, closed in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer_of(reader: asyncio.StreamReader) -> Reply:
    top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = int(top.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    answer = read_answer(io.BytesIO(top + await asyncio.wait_for(reader.readexactly(length), 30)))
    assert answer is not None
    return answer


WAYS = pytest.mark.parametrize("connection", [FastConnection, Connection])


@WAYS
async def test_the_refusal_comes_before_the_body_and_the_connection_goes_on(connection: type[Connection]):
    async with served(connection) as (port, counted), caller(port) as (reader, writer):
        for _ in range(3):
            writer.write(head(STREAM_PATH, "content-length: 5000", HURRIED) + b" " * 100)
            refused = await answer_of(reader)  # though most of the body is still to come
            assert (refused.status, refused.json["reason"]) == (503, "queue_full")
            assert refused.headers["retry-after"] == "1"
            assert "connection" not in refused.headers
            writer.write(b" " * 4900 + wire(STREAM_PATH, b" " * 7))
            assert (await answer_of(reader)).json == {"bytes": 7}
    assert counted == [(STREAM_PATH, "POST", 503, "queue_full"), (STREAM_PATH, "POST", 200, "")] * 3


@pytest.mark.parametrize(("connection", "times"), [(FastConnection, 1), (Connection, 0)])
async def test_a_plain_body_is_begun_from_the_parsers_callbacks_on_the_fast_route_alone(
    connection: type[Connection], times: int
):
    begun.clear()
    async with served(connection) as (port, _), caller(port) as (reader, writer):
        writer.write(wire(STREAM_PATH, b"plain") + wire(STREAM_PATH, b"not plain", "content-encoding: identity"))
        assert [(await answer_of(reader)).json["bytes"] for _ in range(2)] == [5, 9]
    assert begun == [b"plain"] * times


@WAYS
async def test_refusals_keep_their_place_in_a_pipeline(connection: type[Connection]):
    async with served(connection) as (port, _), caller(port) as (reader, writer):
        hurried, patient = (wire(STREAM_PATH, b" " * 9, *more) for more in ((HURRIED,), ()))
        writer.write((hurried + patient) * 100)
        assert [(await answer_of(reader)).status for _ in range(200)] == [503, 200] * 100


@WAYS
async def test_the_refusal_of_a_large_body_ends_the_connection(connection: type[Connection]):
    async with served(connection) as (port, _), caller(port) as (reader, writer):
        writer.write(head(STREAM_PATH, f"content-length: {UNREAD_BYTES_MAX + 1}", HURRIED))
        refused = await answer_of(reader)
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert await asyncio.wait_for(reader.read(), 30) == b""


@WAYS
async def test_another_method_is_refused_for_what_it_is(connection: type[Connection]):
    async with served(connection) as (port, _), caller(port) as (reader, writer):
        writer.write(wire(STREAM_PATH, b"", HURRIED, method="PUT"))
        assert (await answer_of(reader)).status == 405


async def test_large_bodies_share_one_bound_and_give_it_back():
    """Two callers who send large bodies: the second is told to wait, and taken once the first has gone."""
    half = UNREAD_BYTES_MAX // 2 + 1
    async with served(FastConnection) as (port, counted), caller(port) as (first_reader, first):
        first.write(head(STREAM_PATH, f"content-length: {half + 1}") + b" " * half)
        async with caller(port) as (reader, writer):
            while True:  # until the first one's bytes have been seen
                writer.write(wire(STREAM_PATH, b" " * half))
                if (answer := await answer_of(reader)).status == 503:
                    break
                assert answer.json == {"bytes": half}
            assert answer.json["reason"] == "unavailable"
            first.write(b" ")
            assert (await answer_of(first_reader)).json == {"bytes": half + 1}
            writer.write(wire(STREAM_PATH, b" " * half))
            assert (await answer_of(reader)).json == {"bytes": half}
    assert {status for _, _, status, _ in counted} == {200, 503}
