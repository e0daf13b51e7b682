"""A WebSocket at `/api/inference/stream`: messages in, replies out in their order, neither side faster than the other.

One connection is a row of bounded stages: bytes not parsed yet, messages not begun yet, messages without a reply, bytes
not sent yet. A full stage stops the one before it, and in the end the socket is not read, so that TCP holds the caller
back. uvicorn's own WebSocket goes through ASGI: it parses a whole read of the socket into its queue, lets answers to
pings pile up, and nobody sees a hang-up while nobody receives. So only uvicorn's list of connections and its stop are
used here, and frames are read and written by the I/O-free protocol of websockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from inference.errors import ForeignOrigin, MalformedHandshake, MethodNotAllowed, RouteNotFound
from inference.servers.exchange import (
    SMALL_BODY_BYTES,
    Exchange,
    Message,
    Receiving,
    TooManyBodies,
    no_receive,
    no_send,
)
from inference.servers.http import STREAM_PATH, App, head
from inference.servers.stream_replies import StreamReplies

PARSE_BYTES = 2048  # parsed in one step: some 15 rows, or 340 of the smallest frames
TURN_STEPS = 8  # before others have their turn; a step parses, or begins one message
UNREAD_BYTES_MAX = 64 * 1024  # beyond it the socket is not read; one read of it (256 KiB) may come on top
BACKLOG_BYTES_MAX = 1024 * 1024  # of messages not begun yet; one message may come on top
LINGER_S = 1.5  # for the caller's part of a close; the server waits 2 s for its connections when it stops

library_log = logging.getLogger("websockets.server")
library_log.setLevel(logging.WARNING)  # at DEBUG it would log what callers send, uncut


class StreamSocket(asyncio.Protocol):
    """One connection, made by uvicorn for any request that asks for a WebSocket, whatever its path."""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        app: object = config.loaded_app
        assert isinstance(app, App)
        self._app = app
        self._route = app.stream_rows
        self._default_headers = server_state.default_headers
        self._connections: set[Any] = server_state.connections  # which knows only uvicorn's own protocols
        self._loop = asyncio.get_running_loop()
        self._wire = ServerProtocol(max_size=self._route.message_bytes_max, logger=library_log)
        self._transport: asyncio.Transport
        self._receiving: Receiving | None = None
        self._received_bytes = 0  # of a large message that is arriving, as counted over all connections
        self._replies: StreamReplies | None = None  # from the handshake to the end of interest in messages
        self._ended = False  # our last byte was sent
        self._unread = bytearray()
        self._partial = bytearray()  # of a message that comes in several frames
        self._is_text = True
        self._backlog: deque[tuple[bytes, bool]] = deque()
        self._backlog_bytes = 0
        self._turn_due = False
        self._reading = self._writable = True
        self._leaving = False  # the server stops: what was begun is answered, then 1001
        self._heard = True  # since the last ping
        self._unsent_bytes = 0  # at the last ping
        self._message_beats = 0  # since the message began that is arriving
        self._timer: asyncio.TimerHandle | None = None

    # ---- called by the transport and by uvicorn ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is handed over; the request that asks for the WebSocket comes as data, whole."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The handshake, then frames. After our last byte we read on only so that it arrives."""
        if self._ended:
            return
        if self._wire.accept_called:
            self._heard = True
            self._unread += data
            self._turn()
        else:
            self._shake_hands(data)

    def eof_received(self) -> None:
        """The caller sends no more, so it is gone; the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._connections.discard(self)
        self._ended = True
        self._abandon()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The caller does not read: replies wait, so places fill, and no more messages are begun."""
        self._writable = False

    def resume_writing(self) -> None:
        """The caller has read."""
        self._writable = self._heard = True
        self._turn_soon()

    def shutdown(self) -> None:
        """The server stops, and has answered what it had accepted: send what is left, then close."""
        self._leaving = True
        self._start_timer(LINGER_S, self._transport.abort)
        self._turn_soon()

    # ---- handshake ---------------------------------------------------------------------------------------------------

    def _shake_hands(self, data: bytes) -> None:
        self._wire.receive_data(data)
        request = next((event for event in self._wire.events_received() if isinstance(event, Handshake)), None)
        exchange = self._make_exchange(request)
        template = STREAM_PATH if exchange.path == STREAM_PATH else "unknown"
        try:
            if request is None:
                raise MalformedHandshake(str(self._wire.handshake_exc))
            if template != STREAM_PATH:
                raise RouteNotFound(exchange.path)
            if request.method != "GET":
                raise MethodNotAllowed(request.method, ["GET"])
            response = self._wire.accept(request)
            if response.status_code != 101:
                raise MalformedHandshake(str(self._wire.handshake_exc))
            check_origin(exchange.header(b"origin"), exchange.header(b"host") or b"")
            query = self._route.open(exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            self._refuse(exchange, template, error)
            return
        response.headers["X-Request-ID"] = exchange.request_id
        self._wire.send_response(response)
        self._app.observe(STREAM_PATH, "WS", 101, "")
        self._route.count_connections(1)
        self._replies = StreamReplies(self._app, exchange, query, self._turn_soon)
        self._receiving = exchange.receiving
        self._start_timer(self._route.silence_max_s, self._beat)
        self._flush()

    def _make_exchange(self, request: Handshake | None) -> Exchange:
        path, _, query = (request.path if request is not None else STREAM_PATH).partition("?")
        headers = request.headers.raw_items() if request is not None else ()
        scope: Message = {
            "type": "websocket",
            "method": "WS",
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        }
        return self._app.exchange(scope, dict(scope["headers"]), no_receive, no_send, {})

    def _refuse(self, exchange: Exchange, template: str, error: Exception) -> None:
        """Answer the handshake like any other request that is refused, and close."""
        response = self._app.error_response(exchange, template, error)
        headers = (*self._default_headers, *head(response, exchange), (b"connection", b"close"))
        lines = [STATUS_LINE[response.status], *[b"%b: %b\r\n" % header for header in headers], b"\r\n", response.body]
        self._transport.write(b"".join(lines))
        self._end()

    # ---- from bytes to messages, and from replies to bytes -----------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Everything that can go on goes on, for TURN_STEPS steps."""
        self._turn_due = False
        self._send()
        for _ in range(TURN_STEPS):
            if self._backlog and self._replies is not None and not self._replies.full:
                message, is_text = self._backlog.popleft()
                self._backlog_bytes -= len(message)
                self._replies.begin(message, is_text=is_text)
                self._send()
            elif self._unread and self._may_parse():
                self._parse()
            else:
                break
        else:
            self._turn_soon()
        self._steer()

    def _send(self) -> None:
        """Replies that are there, while the caller reads them."""
        while self._replies is not None and self._writable and (reply := self._replies.take()) is not None:
            self._wire.send_text(reply)
            self._flush()
        if self._leaving and self._replies is not None:
            self._backlog.clear()
            if not self._replies:
                self._close(CloseCode.GOING_AWAY, "the server is stopping")

    def _may_parse(self) -> bool:
        """Whether there is room for messages, and for the answers to pings."""
        return self._writable and len(self._backlog) < self._route.window and self._backlog_bytes < BACKLOG_BYTES_MAX

    def _parse(self) -> None:
        part = self._unread[:PARSE_BYTES]
        del self._unread[:PARSE_BYTES]
        self._wire.receive_data(part)
        for event in self._wire.events_received():
            if self._replies is not None and isinstance(event, Frame) and event.opcode <= 2:  # of a message
                self._take(event)
        self._count_received()
        self._flush()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if self._partial or not frame.fin:
            self._partial += frame.data
            if not frame.fin:
                return
            message, self._partial = bytes(self._partial), bytearray()
        else:
            message = bytes(frame.data)
        self._message_beats = 0
        if self._is_text and not is_utf8(message):
            self._fail(CloseCode.INVALID_DATA, "a text message is not UTF-8")
            return
        self._backlog.append((message, self._is_text))
        self._backlog_bytes += len(message)

    def _count_received(self) -> None:
        """A large message counts among the large bodies of the whole server while it arrives."""
        arriving = len(self._partial) + len(self._wire.reader.buffer) if self._replies is not None else 0
        more = (arriving if arriving > SMALL_BODY_BYTES else 0) - self._received_bytes
        if self._receiving is None or more == 0:
            return
        if more < 0:
            self._receiving.give_back(-more)
        else:
            try:
                self._receiving.take(more)
            except TooManyBodies:
                self._fail(CloseCode.TRY_AGAIN_LATER, "the server is receiving as much as it holds at once")
                return
        self._received_bytes += more

    def _steer(self) -> None:
        """Read the socket, or let TCP hold the caller back."""
        reading = len(self._unread) <= UNREAD_BYTES_MAX
        if reading == self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _flush(self) -> None:
        """Write what the protocol has to say."""
        parts = self._wire.data_to_send()
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
        if SEND_EOF in parts:
            self._end()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _close(self, code: CloseCode, reason: str) -> None:
        """Say why, and wait for the caller's close."""
        self._abandon()
        if self._wire.state is OPEN:
            self._wire.send_close(code, reason)
            self._start_timer(LINGER_S, self._transport.abort)
            self._flush()

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Say why, and read nothing more."""
        if self._wire.state is OPEN:
            self._wire.fail(code, reason)
            self._flush()

    def _end(self) -> None:
        """Everything is said. Closing with bytes unread would make the kernel drop it, so wait for the caller's end."""
        self._ended = True
        self._abandon()
        self._unread.clear()
        self._wire.reader.discard()
        self._steer()
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._start_timer(LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def _abandon(self) -> None:
        """No more messages and replies."""
        if self._replies is None:
            return
        self._replies.abandon()
        self._replies = None
        self._count_received()
        self._route.count_connections(-1)
        self._backlog.clear()
        self._backlog_bytes = 0
        self._partial.clear()

    def _beat(self) -> None:
        """Ping; close where the last one and everything else was left unanswered, or a message does not end."""
        unsent_bytes = self._transport.get_write_buffer_size()
        held_back = self._writable and not self._reading  # by us, so its answer cannot come
        if not (self._heard or held_back or unsent_bytes < self._unsent_bytes):
            self._fail(CloseCode.INTERNAL_ERROR, "no sign of life")
            return
        arriving = not self._unread and bool(self._partial or self._wire.reader.buffer)
        self._message_beats = self._message_beats + 1 if arriving else 0
        if self._message_beats * self._route.silence_max_s > self._route.message_max_s:
            self._fail(CloseCode.POLICY_VIOLATION, "a message took too long to arrive")
            return
        self._unsent_bytes, self._heard = unsent_bytes, False
        if self._writable:
            self._wire.send_ping(b"alive?")
            self._flush()
        self._start_timer(self._route.silence_max_s, self._beat)

    def _start_timer(self, delay_s: float, act: Callable[[], object]) -> None:
        """The connection's one timer: the next ping while it is open, then the end of patience."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, act)


def check_origin(origin: bytes | None, host: bytes) -> None:
    """Raise ForeignOrigin for a page of another site than the one that is asked; only browsers send an origin."""
    if origin is not None and (not host or origin.lower().partition(b"://")[2] != host.lower()):
        raise ForeignOrigin(origin.decode("latin-1"), host.decode("latin-1"))


def is_utf8(message: bytes) -> bool:
    """Whether these bytes are text."""
    if message.isascii():
        return True
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
