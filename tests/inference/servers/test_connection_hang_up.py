"""Who hangs up in the middle of a pipeline is noticed at once, though the server reads on only a little."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inference.engine import Engine
from inference.request import Answer, Prediction, Request
from inference.servers.connection import HELD_BYTES_MAX, Connection
from inference.servers.exchange import Exchange, Pending, Response
from inference.servers.fast_route import FastConnection
from inference.servers.http import STREAM_PATH, PredictRoute
from tests.inference.raw_http import wire
from tests.inference.requests import request
from tests.inference.servers.test_refuse_early import caller, served


class SilentEngine(Engine):
    """Accepts and never answers; tells of each request that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.came: asyncio.Queue[Request] = asyncio.Queue()
        self.went: asyncio.Queue[Request] = asyncio.Queue()

    def submit(self, request: Request, done: Any) -> None:
        self.came.put_nowait(request)

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        self.came.put_nowait(request)
        return asyncio.get_running_loop().create_future()

    def cancel(self, request: Request) -> None:
        self.went.put_nowait(request)


def nothing(_: Prediction) -> Response:
    raise AssertionError("the engine never answers")


def begin(exchange: Exchange, body: bytes) -> Pending:
    return Pending(request(body.decode().strip()), nothing)


async def ask(exchange: Exchange) -> Response:
    return nothing(await exchange.predict(request((await exchange.body()).decode().strip())))


@pytest.mark.parametrize("connection", [FastConnection, Connection])
@pytest.mark.parametrize("behind", [0, 1, 20, 300])
async def test_the_request_that_is_being_answered_is_given_up(connection: type[Connection], behind: int):
    engine = SilentEngine()
    waiting = wire(STREAM_PATH, b"waiting" + b" " * 100)
    assert behind * len(waiting) < HELD_BYTES_MAX
    async with served(connection, PredictRoute(STREAM_PATH, ask, begin), engine) as (port, counted):
        async with caller(port) as (_, writer):
            writer.write(wire(STREAM_PATH, b"first") + waiting * behind)
            assert (await asyncio.wait_for(engine.came.get(), 30)).id == "first"
        assert (await asyncio.wait_for(engine.went.get(), 30)).id == "first"
        assert engine.came.empty(), "what waited behind it never began"
    assert [status for _, _, status, _ in counted] == [499]
