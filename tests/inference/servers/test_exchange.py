"""One request and its response: bodies within bounds, ids, and callers who hang up."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import Iterable

import pytest

from inference.engine import Engine
from inference.errors import MalformedBody, Stopping, TooLarge, UnsupportedMedia
from inference.monitoring.logs import PredictionLog
from inference.request import Answer, Request
from inference.servers.exchange import (
    SMALL_BODY_BYTES,
    UNREAD_BYTES_MAX,
    CallerGone,
    Exchange,
    HangUpWatch,
    IdSource,
    Message,
    Receiving,
    TooManyBodies,
    decompressed,
    request_id_of,
)
from inference.settings import LoggingSettings
from tests.inference.requests import request

LIMIT = 1000
QUIET = PredictionLog(LoggingSettings())


class Caller:
    """What a caller sends, part by part; hangs up when told to."""

    def __init__(self, parts: Iterable[bytes] = (b"",)) -> None:
        parts = list(parts)
        self.messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
            for number, part in enumerate(parts)
        ]
        self.gone = asyncio.Event()
        self.more = asyncio.Event()

    async def receive(self) -> Message:
        while not self.messages and not self.gone.is_set():
            if not self.more.is_set():
                ends = [asyncio.ensure_future(event.wait()) for event in (self.gone, self.more)]
                _, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
            self.more.clear()
        if self.messages:
            return self.messages.pop(0)
        return {"type": "http.disconnect"}


class SilentEngine(Engine):
    """An engine that accepts and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[Request] = []

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        return asyncio.get_running_loop().create_future()

    def cancel(self, request: Request) -> None:
        self.cancelled.append(request)


def exchange(caller: Caller, engine: Engine | None = None, **headers: str) -> Exchange:
    async def send(_: Message) -> None:
        raise AssertionError("the shell sends, not the exchange")

    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Message = {"method": "POST", "path": "/x", "query_string": b"a=1&b=%20&a=2", "headers": listed}
    server = (engine or Engine(), HangUpWatch(), LIMIT)
    return Exchange(scope, dict(listed), caller.receive, send, *server, "req_1", QUIET, {})


async def test_a_body_comes_in_parts():
    assert await exchange(Caller([b"gl", b"a", b"ss"])).body() == b"glass"
    assert await exchange(Caller()).body() == b""


async def test_a_body_that_declares_too_much_is_not_read():
    caller = Caller([b"x"])
    with pytest.raises(TooLarge, match="1001 bytes"):
        await exchange(caller, content_length="1001").body()
    assert caller.messages, "nothing was read"


async def test_a_body_that_grows_too_large_is_refused_on_the_way():
    caller = Caller([b"x" * 600, b"x" * 600, b"x" * 600])
    with pytest.raises(TooLarge, match="more than 1000"):
        await exchange(caller).body()
    assert len(caller.messages) == 1


async def test_a_limit_of_the_route_holds_if_it_is_less():
    assert await exchange(Caller([b"x" * 100])).body(100) == b"x" * 100
    with pytest.raises(TooLarge, match="more than 100"):
        await exchange(Caller([b"x" * 101])).body(100)
    with pytest.raises(TooLarge, match="more than 1000"):
        await exchange(Caller([b"x" * 1001])).body(5000)


async def test_large_bodies_are_counted_while_they_are_received_and_given_back_however_they_end():
    part = b"x" * (SMALL_BODY_BYTES + 1)
    receiving = Receiving(2 * len(part) - 1)
    both = Caller([part, b""])
    whole = exchange(both)
    whole.receiving, whole.body_bytes_max = receiving, 10 * len(part)
    received = asyncio.ensure_future(whole.body())
    held = both.messages.pop()  # its end is still to come
    await asyncio.sleep(0)
    assert receiving.bytes == len(part)
    refused = exchange(Caller([part, b""]))
    refused.receiving, refused.body_bytes_max = receiving, 10 * len(part)
    with pytest.raises(TooManyBodies, match=str(receiving.bytes_max)):
        await refused.body()
    assert receiving.bytes == len(part)
    both.messages.append(held)
    both.more.set()
    assert await received == part
    assert receiving.bytes == 0


async def test_small_bodies_are_not_counted():
    receiving = Receiving(1)
    small = exchange(Caller([b"x" * 400, b"x" * 400]))
    small.receiving = receiving
    assert len(await small.body()) == 800
    assert receiving.bytes == 0


@pytest.mark.parametrize(
    ("headers", "read", "ends"),
    [
        ({"content_length": "10"}, False, False),
        ({"content_length": str(UNREAD_BYTES_MAX)}, False, False),
        ({"content_length": str(UNREAD_BYTES_MAX + 1)}, False, True),
        ({"content_length": "10", "expect": "100-continue"}, False, True),
        ({"content_length": "10", "expect": "100-continue"}, True, False),
        ({"transfer_encoding": "chunked"}, False, False),
    ],
)
async def test_an_unread_body_ends_the_connection_unless_it_is_small(headers: dict[str, str], read: bool, ends: bool):
    made = exchange(Caller([b"x" * 10]), **headers)
    if read:
        await made.body()
    assert made.ends_connection is ends


@pytest.mark.parametrize("size", [100, 5000])
async def test_a_compressed_body_is_unpacked_beside_the_loop_when_it_may_be_large(size: int):
    text = os.urandom(size)
    made = exchange(Caller([gzip.compress(text)]), content_encoding="gzip")
    made.body_bytes_max = 10_000
    assert await made.body() == text


async def test_a_caller_who_leaves_in_the_middle_of_the_body():
    caller = Caller([b"half", b"other half"])
    caller.messages.pop()
    caller.gone.set()
    with pytest.raises(CallerGone):
        await exchange(caller).body()


async def test_an_encoding_that_is_not_read_is_refused_before_reading():
    with pytest.raises(UnsupportedMedia, match="gzip or deflate or identity"):
        await exchange(Caller([b"x"]), content_encoding="br").body()


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_what_decompresses_beyond_the_limit_is_refused(encoding: bytes):
    compress = gzip.compress if encoding == b"gzip" else zlib.compress
    assert decompressed(compress(b"x" * LIMIT), encoding, LIMIT) == b"x" * LIMIT
    with pytest.raises(TooLarge):
        decompressed(compress(b"x" * (LIMIT + 1)), encoding, LIMIT)
    with pytest.raises(TooLarge):
        decompressed(compress(bytes(50_000_000)), encoding, LIMIT)


@pytest.mark.parametrize(
    "raw", [b"", b"glass", gzip.compress(b"glass", mtime=0)[:-9]], ids=["empty", "not gzip", "cut off"]
)
def test_what_does_not_decompress_is_malformed(raw: bytes):
    with pytest.raises(MalformedBody, match="gzip"):
        decompressed(raw, b"gzip", LIMIT)


def test_deflate_is_read_with_and_without_its_envelope():
    bare = zlib.compress(b"glass")[2:-4]
    assert decompressed(zlib.compress(b"glass"), b"deflate", LIMIT) == b"glass"
    assert decompressed(bare, b"deflate", LIMIT) == b"glass"


def test_ids_differ_within_and_between_processes():
    one, other = IdSource("req_"), IdSource("req_")
    assert len({one(), one(), other(), other()}) == 4


@pytest.mark.parametrize(("given", "taken"), [("plant-7", True), ("", False), ("a" * 129, False), ("a\tb", False)])
def test_a_request_id_is_taken_over_if_it_is_short_and_printable(given: str, taken: bool):
    headers = {b"x-request-id": given.encode()}
    assert (request_id_of(headers, IdSource("made_")) == given) is taken


async def test_the_query_is_decoded():
    assert exchange(Caller()).query == {"a": "2", "b": " "}


async def test_a_caller_who_hangs_up_is_noticed_and_the_request_cancelled():
    engine, caller = SilentEngine(), Caller()
    made = exchange(caller, engine)
    await made.body()
    asked = request("gone")
    waiting = asyncio.ensure_future(made.predict(asked))
    await asyncio.sleep(0)
    caller.gone.set()
    with pytest.raises(CallerGone):
        await asyncio.wait_for(waiting, 30)
    assert engine.cancelled == [asked]


async def test_an_answer_ends_the_watch():
    made = exchange(Caller())
    with pytest.raises(Stopping):  # the engine has no version open
        await made.predict(request("a"))
    assert not made.watch._young
    assert not made.watch._old
