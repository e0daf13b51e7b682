"""Requests behind one that waits for its answer are not parsed, however small the reads are in which they come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inference.servers.connection import HELD_BYTES_MAX, PIECE_BYTES, Connection
from inference.servers.fast_route import FastConnection
from inference.servers.http import STREAM_PATH, PredictRoute
from tests.inference.raw_http import wire
from tests.inference.servers.test_connection_hang_up import SilentEngine, ask, begin
from tests.inference.servers.test_refuse_early import caller, served

DRIPS = 500


@pytest.mark.parametrize("kind", [FastConnection, Connection])
async def test_a_pipeline_that_drips_in_does_not_pile_up(kind: type[Connection]):
    made: list[Connection] = []

    class Seen(kind):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.append(self)

    message = wire(STREAM_PATH, b"waiting")
    assert PIECE_BYTES < DRIPS * len(message) < HELD_BYTES_MAX
    engine = SilentEngine()
    async with served(Seen, PredictRoute(STREAM_PATH, ask, begin), engine) as (port, _), caller(port) as (_, writer):
        writer.write(wire(STREAM_PATH, b"first"))
        await asyncio.wait_for(engine.came.get(), 30)
        (connection,) = made
        for _ in range(DRIPS):
            before = connection._received_bytes
            writer.write(message)
            while connection._received_bytes == before:
                await asyncio.sleep(0)
        assert len(connection.pipeline) <= PIECE_BYTES // len(message)
        assert len(connection._held) > PIECE_BYTES
