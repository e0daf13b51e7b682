"""The open loop against small servers whose behaviour is known: order, refusals, lost connections, a missing server."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest

from inference.cli.load_figures import LoadRun, crowded
from inference.cli.load_generator import ServerGone, run_load

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
REQUEST = b"POST /x HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n"

Respond = Callable[[bytes, asyncio.Transport], object]


class Served(asyncio.Protocol):
    """One accepted connection, `among` those that are open; `respond` is called with each request it brings."""

    def __init__(self, respond: Respond, among: set[Served]) -> None:
        self._respond = respond
        self._among = among
        self._came = b""

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        self._among.add(self)

    def data_received(self, data: bytes) -> None:
        *requests, self._came = (self._came + data).split(b"\r\n\r\n")
        for request in requests:
            self._respond(request, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.discard(self)


@contextmanager
def server(respond: Respond) -> Iterator[int]:
    """A server in a thread; `respond` is called with each request, which ends with an empty line."""
    started, port = threading.Event(), 0
    loop = asyncio.new_event_loop()

    async def main() -> None:
        nonlocal port
        connections: set[Served] = set()
        listener = await asyncio.get_running_loop().create_server(lambda: Served(respond, connections), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        started.set()
        await stopping.wait()
        # What has just been accepted is made a connection by a task, which fails if the listener is closed before.
        while connections or len(asyncio.all_tasks()) > 1:
            for connection in connections:
                connection.transport.abort()
            await asyncio.sleep(0)
        listener.close()

    stopping = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert started.wait(10)
        yield port
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def load(respond: Respond, count: int, connections: int = 4, every_s: float = 0.0005) -> LoadRun:
    """A run of `count` requests against a server that answers this way."""
    with server(respond) as port:
        return run_load("127.0.0.1", port, [REQUEST], array("d", [every_s * i for i in range(count)]), connections)


@pytest.mark.parametrize("answer", [OK, CHUNKED, CLOSING])
def test_every_request_gets_its_answer(answer: bytes) -> None:
    def respond(request: bytes, transport: asyncio.Transport) -> None:
        transport.write(answer)
        if answer == CLOSING:
            transport.close()

    run = load(respond, 100)
    assert set(run.status) == {200}
    assert all(sent >= due for due, sent in zip(run.due_s, run.sent_s, strict=True))
    assert all(done > sent for sent, done in zip(run.sent_s, run.done_s, strict=True))


def test_each_request_is_the_one_chosen() -> None:
    seen: list[bytes] = []

    def respond(request: bytes, transport: asyncio.Transport) -> None:
        seen.append(request.split()[1])
        transport.write(BUSY if b"/b" in request else OK)

    paths = [b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"]
    choice = [0, 1, 1, 0, 1]
    with server(respond) as port:
        run = run_load("127.0.0.1", port, paths, array("d", [0.01 * i for i in range(5)]), 1, choice)
    assert seen == [b"/a", b"/b", b"/b", b"/a", b"/b"]
    assert list(run.status) == [200, 503, 503, 200, 503]


def test_one_connection_has_one_request_in_flight() -> None:
    """The server answers when each of the connections has a request, and the two that are left over in the end."""
    seen, unanswered = 0, list[asyncio.Transport]()

    def respond(request: bytes, transport: asyncio.Transport) -> None:
        nonlocal seen
        seen += 1
        assert transport not in unanswered
        unanswered.append(transport)
        if len(unanswered) == 3 or seen == 20:
            for waiting in unanswered:
                waiting.write(OK)
            unanswered.clear()

    run = load(respond, 20, connections=3, every_s=0.0)
    assert sorted(run.sent_s)[3] >= min(run.done_s)
    assert max(run.seen_s) < inf
    assert set(run.status) == {200}


def test_a_slow_server_slows_nobody_but_is_charged_for_the_wait() -> None:
    """One connection, 20 ms an answer, a request each 1 ms: the last ones waited for all before them."""

    def respond(request: bytes, transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(0.02, transport.write, OK)

    run = load(respond, 20, connections=1, every_s=0.001)
    assert run.done_s[-1] - run.due_s[-1] > 19 * 0.019
    assert "waited for a free connection" in crowded(run)


def test_a_connection_that_breaks_loses_its_request_and_is_replaced() -> None:
    count = 0

    def respond(request: bytes, transport: asyncio.Transport) -> None:
        nonlocal count
        count += 1
        if count % 10 == 0:
            transport.abort()
        else:
            transport.write(OK)

    run = load(respond, 50, connections=2)
    assert (list(run.status).count(200), list(run.status).count(0)) == (45, 5)


def test_what_is_not_http_is_a_lost_request() -> None:
    run = load(lambda request, transport: transport.write(b"220 mail.example ready\r\n"), 3, connections=1)
    assert set(run.status) == {0}


def test_a_missing_server_is_named() -> None:
    with server(lambda request, transport: None) as port:
        pass
    with pytest.raises(ServerGone, match=f"No server answers at http://127.0.0.1:{port}"):
        run_load("127.0.0.1", port, [REQUEST], array("d", [0.0]), 2)


def test_nothing_due_is_a_run_of_nothing() -> None:
    assert len(load(lambda request, transport: None, 0).status) == 0
