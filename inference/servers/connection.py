"""One HTTP connection with its limits: no caller takes more memory or patience than it is given, whatever it sends.

Leans on uvicorn's HttpToolsProtocol (its minor version is pinned, and tests/inference/servers/test_connection.py names
what is used here): parsing, cycles, flow control and the state that a graceful stop looks at stay uvicorn's. Ours are

- the size of headers and trailers, which the parser does not bound;
- pipelines: what comes behind requests without an answer is not parsed, so that they cannot pile up;
- slow callers: one timer for all connections looks at what each was last seen doing (`decisions.slow_caller`); no timer
  and no clock a request;
- the end: a refusal is read by its caller, since what is still sent is let go for a moment before the socket closes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from inference.decisions.slow_caller import PROGRESS_BYTES_MIN, CallerWatch, Stage, Verdict
from inference.errors import InferenceError
from inference.servers.connection_refusals import (
    METHOD,
    ROUTE,
    STATUS_BY_REASON,
    Broken,
    CallerTooSlow,
    HeadersTooLarge,
    MalformedHttp,
    TooManyConnections,
    refusal,
)
from inference.servers.connections import Connections
from inference.servers.exchange import UNREAD_BYTES_MAX

log = logging.getLogger(__name__)

PIECE_BYTES = 4096  # parsed at once: at most 227 requests (of 18 bytes), some 2.5 KB each
HELD_BYTES_MAX = 64 * 1024  # behind a pipeline; one read of the socket (256 KiB) may come on top
HEADERS_MAX = 100
LEAVING_MAX = 256  # connections beyond the limit that are told so before they are closed
UPGRADE_HEADERS = (b"upgrade", b"http2-settings")


class Connection(HttpToolsProtocol):
    """One connection, whose requests all go through ASGI."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        all_connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = all_connections
        self._limits = all_connections.limits
        self._watch = CallerWatch()
        self._received_bytes = 0
        self._whole: object = None  # the scope of the last request that came to its end
        self._unread_bytes = 0  # of the present request since it last got on: headers, trailers, a body nobody reads
        self._held = b""  # received behind a full pipeline
        self._replay: bytes | None = None  # the head of a request whose wish for an upgrade is passed over
        self._refusal: InferenceError | None = None  # that waits for the answers before it
        self._in_asgi: RequestResponseCycle | None = None  # the latest whose turn came; `cycle` is the latest received
        self._leaving = False  # our last byte was sent or is due; nothing that comes is read

    # ---- called by the transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection, or refuse it while there are too many."""
        super().connection_made(transport)
        self._all.add(self)
        limit = self._limits.connections_max
        if len(self.connections) > limit + LEAVING_MAX:
            transport.abort()
        elif len(self.connections) > limit:
            self._refuse(TooManyConnections(limit))

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        self._all.discard(self)
        super().connection_lost(exc)
        cycle = self._in_asgi
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came, in pieces, as long as no answers are owed to a pipeline."""
        self._all.heard()
        size = len(data)
        self._received_bytes += size
        if self._leaving:
            self._unread_bytes += size
            if self._unread_bytes > self._limits.body_bytes_max:
                self.transport.abort()
        elif self._held or self.pipeline:
            self._hold(data)
        elif size <= PIECE_BYTES:
            self._feed(data)
        else:
            self._feed_in_pieces(data)

    def _feed_in_pieces(self, data: bytes) -> None:
        for place in range(0, len(data), PIECE_BYTES):
            if self.pipeline:
                self._hold(data[place:])
                return
            if not self._feed(data[place : place + PIECE_BYTES]):
                return

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HELD_BYTES_MAX:
            self.flow.pause_reading()

    def _feed(self, data: bytes) -> bool:
        """Parse one piece; False if nothing after it is to be parsed."""
        cycle = self.cycle
        body_bytes = 0 if cycle is None else len(cycle.body)
        upgraded_at: int | None = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            upgraded_at = upgrade.args[0]
        except httptools.HttpParserError as error:
            self._refuse(_fault(error))
            return False
        if upgraded_at is not None:
            return self._upgrade(data[upgraded_at:])
        if self.scope is not self._whole and self.scope is not None:
            self._count_unread(len(data), body_bytes)
        return not self._leaving

    def _upgrade(self, rest: bytes) -> bool:
        """Another protocol begins, or the same request again without the wish for it; then as `_feed`."""
        if not self._should_upgrade():
            head, self._replay = self._replay or b"", None
            return self._feed(head + rest)
        if self._owes_answers():
            self._refuse(MalformedHttp("a WebSocket was asked for while requests before it wait for an answer"))
        else:
            self._all.discard(self)
            self.handle_websocket_upgrade()
        return False

    def _count_unread(self, size: int, body_bytes_before: int) -> None:
        """A request is not whole yet: see that it gets on."""
        cycle = self.cycle
        begun = "method" in self.scope
        if begun and len(cycle.body) > body_bytes_before:
            self._unread_bytes = 0
            return
        self._unread_bytes += size
        if begun and cycle.response_complete:
            if self._unread_bytes > UNREAD_BYTES_MAX + PIECE_BYTES:
                self._leave()
        elif self._unread_bytes > self._limits.header_bytes_max + PIECE_BYTES:
            limit = self._limits.header_bytes_max
            self._refuse(HeadersTooLarge(f"more than {limit} bytes", f"at most {limit} bytes"))

    # ---- called by the parser ----------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """Begin the request, or keep it for its turn. Raises HeadersTooLarge, MalformedHttp."""
        self._check_head()
        if self.parser.should_upgrade():
            self._meet_upgrade()
            return
        super().on_headers_complete()
        self._unread_bytes = 0
        self.headers = []  # trailers are read by nobody
        if self.pipeline:
            self.flow.resume_reading()  # or nobody would notice that the caller hangs up

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._replay is not None:
            return
        self._whole = self.scope
        self._unread_bytes = 0
        super().on_message_complete()

    def _check_head(self) -> None:
        if len(self.headers) > HEADERS_MAX:
            raise HeadersTooLarge(f"{len(self.headers)} headers", f"at most {HEADERS_MAX}")
        limit = self._limits.header_bytes_max
        if self._unread_bytes + PIECE_BYTES > limit:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limit:
                raise HeadersTooLarge(f"{size} bytes", f"at most {limit} bytes")
        if not self.url.startswith(b"/") and httptools.parse_url(self.url).path is None:
            raise MalformedHttp("the request target is not a path")

    def _meet_upgrade(self) -> None:
        """A wish for another protocol: a WebSocket, or one that is passed over."""
        if self.parser.get_method() == b"CONNECT":
            raise MalformedHttp("CONNECT is for proxies")
        if self._should_upgrade():
            super().on_headers_complete()
        else:
            self._replay = self._head_without_upgrade()

    def _head_without_upgrade(self) -> bytes:
        """The head again, as a caller would send it who wants nothing but HTTP/1.1 (RFC 9110, 7.8: we may ignore it).

        The parser takes what follows such a head for another protocol, and would lose the body.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in UPGRADE_HEADERS]
                lines += [b"connection:" + b",".join(kept)] if kept else []
            elif name not in UPGRADE_HEADERS:
                lines.append(name + b":" + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    # ---- cycles ------------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        transport: Any = _GentleTransport(self)
        cycle.transport = transport
        self._in_asgi = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer was written: the next request's turn. Nothing is read while a pipeline waits."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or (self._leaving and self._refusal is None):
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self.pipeline:
                return
        elif self._refusal is not None:
            self._say(self._refusal)
            return
        if self._held:
            self.loop.call_soon(self._go_on)
        else:
            self.flow.resume_reading()

    def _go_on(self) -> None:
        """Parse what was held."""
        held, self._held = self._held, b""
        if self._leaving or self.transport.is_closing():
            return
        self._feed_in_pieces(held)
        if not self._held and not self.pipeline:
            self.flow.resume_reading()

    def _owes_answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # ---- the end -----------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Nobody waits for the request that is being read."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def _refuse(self, error: InferenceError) -> None:
        """Answer what came before, then this, and close: nothing that follows has a meaning."""
        self._leaving = True
        self._held = b""
        cycle = self.cycle
        began = cycle is not None and cycle.scope is self.scope and self.scope is not self._whole
        if began and self.pipeline:
            self.pipeline.popleft()  # the newest
            self._refusal = error
        elif began and cycle.response_complete:
            self._leave()
        elif not began and self._owes_answers():
            self._refusal = error
        else:
            if began:
                self.abandon()
            self._say(error)

    def _say(self, error: InferenceError) -> None:
        if self.transport.is_closing():
            return
        app: Any = self.app
        app.observe(ROUTE, METHOD, STATUS_BY_REASON[error.reason], error.reason)
        log.debug("%s", error, extra={"error": error})
        self.transport.write(refusal(error, self.server_state.default_headers))
        self._leave()

    def _leave(self) -> None:
        """End our side; the caller may still read what was sent, and has LEAVE_S to end its own.

        Closing a socket with bytes unread resets it, and the caller would never see the answer.
        """
        self._leaving = True
        self._refusal = None
        self._unread_bytes = 0
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()

    def close_gently(self) -> None:
        """Close after an answer."""
        if self._held or self.scope is not self._whole:
            self._leave()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The server stops: answer what was taken, then close."""
        if self._leaving and self._refusal is None:
            self.transport.close()
        else:
            super().shutdown()

    # ---- slow callers ------------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """What the connection waits for."""
        if self.transport.get_write_buffer_size():
            return Stage.ANSWER
        if self._refusal is not None:
            return Stage.SERVED
        if self._leaving or self.transport.is_closing():
            return Stage.LEAVING
        scope = self.scope
        if scope is None:
            return Stage.SILENT
        if scope is not self._whole and not (self.pipeline or self._held or self.flow.read_paused):
            return Stage.BODY if "method" in scope else Stage.HEAD
        return Stage.SERVED if self._owes_answers() else Stage.IDLE

    def look(self, now: float) -> None:
        """Do what is due, if this caller has been too slow."""
        stage = self.stage
        moved_bytes = self._received_bytes
        if stage is Stage.ANSWER:  # read, or the next of a pipeline begun
            moved_bytes = -self.transport.get_write_buffer_size() - (len(self.pipeline) << 40)
        verdict = self._watch.look(stage, self.scope, moved_bytes, self._limits.patience, now)
        if verdict is Verdict.DROP:
            self.transport.abort()
        elif verdict is Verdict.CLOSE:
            self.transport.close()
        elif verdict is Verdict.REFUSE:
            patience = self._limits.patience
            if stage is Stage.HEAD:
                self._refuse(CallerTooSlow("head", f"all of it within {patience.head_s:g} s"))
            else:
                moving = f"{PROGRESS_BYTES_MIN} bytes within {patience.stall_s:g} s"
                self._refuse(CallerTooSlow("body", f"{moving}, all of it within {patience.body_s:g} s"))


class _GentleTransport:
    """What a cycle writes to. It closes so that the caller can read the answer."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.close_gently()


def _fault(error: httptools.HttpParserError) -> InferenceError:
    """What the caller did wrong, or the server, inside one of the parser's callbacks."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return MalformedHttp(str(error))
    cause = error.__context__
    if isinstance(cause, InferenceError):
        return cause
    if isinstance(cause, httptools.HttpParserInvalidURLError):
        return MalformedHttp(str(cause))
    log.error("connection failed", exc_info=cause)
    return Broken()
