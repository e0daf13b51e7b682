"""One HTTP request and its response on plain ASGI: what every handler is given and gives back."""

from __future__ import annotations

import asyncio
import itertools
import os
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from inference.engine import Engine
from inference.errors import InferenceError, MalformedBody, TooLarge, Unavailable, UnsupportedMedia
from inference.monitoring.logs import PredictionLog
from inference.request import Answer, Prediction, Request
from inference.servers.loop_round import LoopRound

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
ENCODINGS = (b"gzip", b"deflate", b"identity")  # of a body
REQUEST_ID_CHARS_MAX = 128
UNREAD_BYTES_MAX = 1024 * 1024  # of a body that nobody reads, let go so that the connection may stay
SMALL_BODY_BYTES = 64 * 1024  # not counted; connections are, and that bounds them
UNPACKED_ON_LOOP_BYTES_MAX = 1024  # deflate expands them to 1 MiB at most, in some 1 ms
RETRY_AFTER_S = 1.0
WATCH_INTERVAL_S = 0.02  # a caller that hangs up frees its place within two of these


class CallerGone(Exception):
    """The caller hung up; there is nobody to answer."""


class TooManyBodies(Unavailable):
    """Bodies that are being received take as much memory as the server gives them."""

    retry_after_s = RETRY_AFTER_S

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The server is receiving as many bytes as it holds at once ({limit} of bodies above {SMALL_BODY_BYTES} "
            f"bytes). Retry after {RETRY_AFTER_S:g} s."
        )


class InternalError(InferenceError):
    """A fault of the server itself; the log has the rest under the request's id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The server failed on this request. Its log tells why, under request id {request_id}.")


class Response(msgspec.Struct, frozen=True):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()


class IdSource:
    """Ids that are unique over restarts and replicas: 48 random bits of the process, then a counter."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}{os.urandom(6).hex()}"
        self._count = itertools.count(1)

    def __call__(self) -> str:
        """The next id."""
        return f"{self._prefix}{next(self._count):06x}"


class Receiving:
    """Bytes of all large bodies that are being received, within one bound for the whole server."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0

    def take(self, size: int) -> None:
        """`size` bytes more. Raises TooManyBodies."""
        if self.bytes + size > self.bytes_max:
            raise TooManyBodies(self.bytes_max)
        self.bytes += size

    def give_back(self, size: int) -> None:
        """Bytes that were taken are held no longer."""
        self.bytes -= size
        assert self.bytes >= 0, "more was given back than taken"


class HangUpWatch:
    """Notices callers that hang up while their request waits.

    Listening to a connection costs as much as a small prediction, so only requests older than one interval are watched:
    one shared timer turns the generation of new requests into watched ones.
    """

    def __init__(self) -> None:
        self._young: set[Exchange] = set()
        self._old: set[Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange) -> None:
        """A request begins to wait."""
        self._young.add(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._turn)

    def discard(self, exchange: Exchange) -> None:
        """The request no longer waits."""
        self._young.discard(exchange)
        self._old.discard(exchange)

    def _turn(self) -> None:
        self._timer = None
        for exchange in self._old:
            exchange.start_watching()
        self._old, self._young = self._young, set()
        if self._old:
            self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._turn)


class Exchange(msgspec.Struct, eq=False):
    """One HTTP request as the handlers see it; `headers` by lower-case name, of a header given twice the last."""

    scope: Message
    headers: Mapping[bytes, bytes]
    receive: Receive
    send: Send
    engine: Engine
    watch: HangUpWatch
    body_bytes_max: int
    request_id: str
    predictions: PredictionLog
    path_params: Mapping[str, str]
    receiving: Receiving | None = None
    rounds: LoopRound | None = None
    body_whole: bool = False
    _waiting: asyncio.Future[Answer] | None = None
    _watcher: asyncio.Task[None] | None = None

    @property
    def method(self) -> str:
        """GET, POST ..."""
        return self.scope["method"]

    @property
    def path(self) -> str:
        """The decoded path."""
        return self.scope["path"]

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a field given twice the last."""
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def header(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name."""
        return self.headers.get(name)

    def now(self) -> float:
        """Seconds of the engine's clock."""
        return self.engine.clock()

    def arrived_s(self) -> float:
        """When the bytes that are read now may have come, in seconds of the engine's clock."""
        return self.engine.clock() if self.rounds is None else self.rounds.arrived_s()

    @property
    def ends_connection(self) -> bool:
        """Whether too much of the body may still come to wait for the next request behind it."""
        if self.body_whole:
            return False
        declared = self.headers.get(b"content-length")
        return self.header(b"expect") is not None or (declared is not None and int(declared) > UNREAD_BYTES_MAX)

    async def body(self, bytes_max: int | None = None) -> bytes:
        """The whole body, decompressed, of at most `bytes_max` if that is less than the server's own limit.

        Raises TooLarge, TooManyBodies, UnsupportedMedia, MalformedBody, CallerGone.
        """
        encoding = self.headers.get(b"content-encoding", b"identity").lower()
        if encoding not in ENCODINGS:
            accepted = [name.decode() for name in ENCODINGS]
            raise UnsupportedMedia("content-encoding", encoding.decode("latin-1"), accepted)
        limit = self.body_bytes_max if bytes_max is None else min(bytes_max, self.body_bytes_max)
        declared = self.headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            raise TooLarge("body", f"{int(declared)} bytes", f"at most {limit} bytes")
        raw = await self._received(limit)
        if encoding == b"identity":
            return raw
        if len(raw) <= UNPACKED_ON_LOOP_BYTES_MAX:
            return decompressed(raw, encoding, limit)
        return await asyncio.to_thread(decompressed, raw, encoding, limit)

    async def _received(self, limit: int) -> bytes:
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body") and len(message["body"]) <= limit:
            self.body_whole = True
            return message["body"]
        parts: list[bytes] = []
        size = taken = 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise CallerGone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise TooLarge("body", f"more than {limit} bytes", f"at most {limit} bytes")
                if self.receiving is not None and size > SMALL_BODY_BYTES:
                    self.receiving.take(size - taken)
                    taken = size
                if not message.get("more_body"):
                    self.body_whole = True
                    return b"".join(parts)
                message = await self.receive()
        finally:
            if self.receiving is not None:
                self.receiving.give_back(taken)

    async def predict(self, request: Request, answerer: Answerer | None = None) -> Prediction:
        """The answer of the engine, or of who else answers; raises the InferenceError that ended the request.

        A caller that hangs up meanwhile frees its place, and CallerGone is raised.
        """
        asked = answerer or self.engine
        self._waiting = asked.ask(request)
        self.watch.add(self)
        try:
            answer = await self._waiting
        finally:
            asked.cancel(request)
            self.watch.discard(self)
            if self._watcher is not None:
                self._watcher.cancel()
        if isinstance(answer, InferenceError):
            raise answer
        if self.predictions.enabled and answerer is None:
            self.predictions.write(self.request_id, answer, request.inputs)
        return answer

    def start_watching(self) -> None:
        """Wait for the caller's hang-up; the body has been read, so nothing else can come."""
        self._watcher = asyncio.ensure_future(self._watch_connection())

    async def _watch_connection(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(CallerGone())


async def no_receive() -> Message:
    """For an exchange whose body comes another way."""
    raise AssertionError("nothing is received through this exchange")


async def no_send(message: Message) -> None:
    """For an exchange whose response goes another way."""
    raise AssertionError("nothing is sent through this exchange")


class Answerer(Protocol):
    """Who answers requests: the engine, or the process that a line belongs to."""

    def submit(self, request: Request, done: Callable[[Answer], None]) -> None:
        """Ask; `done` is called once, maybe before this returns, and never after `cancel`."""
        ...

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        """`submit`, with the answer as a future."""
        ...

    def cancel(self, request: Request) -> None:
        """Nobody waits any more. No-op once answered."""
        ...


class Pending(msgspec.Struct, frozen=True, eq=False):
    """A request that has been read and checked, what turns its prediction into the response, and who is asked."""

    request: Request
    respond: Callable[[Prediction], Response]
    answerer: Answerer | None = None  # None: the engine of this process


Begin = Callable[[Exchange, bytes], Pending | None]
"""Reads a whole plain body without waiting; None where that takes more. Raises InferenceError."""


def check_json_size(size: int, limit: int, instead: str) -> None:
    """Raise TooLarge, which names the other form, for JSON that would hold up everybody while it is read."""
    if size > limit:
        raise TooLarge("JSON", f"{size} bytes", f"at most {limit} bytes; {instead}")


def decompressed(raw: bytes, encoding: bytes, limit: int) -> bytes:
    """`raw` by gzip or deflate (zlib or raw), at most `limit` bytes. Raises TooLarge, MalformedBody."""
    windows = (zlib.MAX_WBITS | 16,) if encoding == b"gzip" else (zlib.MAX_WBITS, -zlib.MAX_WBITS)
    fault = ""
    for window in windows:
        stream = zlib.decompressobj(window)
        try:
            body = stream.decompress(raw, limit + 1)
        except zlib.error as error:
            fault = str(error)
            continue
        if len(body) > limit:
            raise TooLarge("body", f"more than {limit} bytes when decompressed", f"at most {limit} bytes")
        if not stream.eof:
            fault = "the compressed stream ends early"
            continue
        return body
    raise MalformedBody(f"its content-encoding is {encoding.decode()}, and {fault}", "a whole compressed stream")


def request_id_of(headers: Mapping[bytes, bytes], make_id: IdSource) -> str:
    """The caller's X-Request-ID if it is short and printable, else a new id."""
    value = headers.get(b"x-request-id")
    if value is not None:
        text = value.decode("latin-1")
        if 0 < len(text) <= REQUEST_ID_CHARS_MAX and text.isascii() and text.isprintable():
            return text
    return make_id()
