"""Answers plain predict requests from the parser's callbacks: no task, no ASGI messages, one write.

Limits, pipelining, keep-alive and the end of a connection are `servers.connection`'s. Reading, checking and the text of
errors are those of the handlers. Whatever is not plain (a large, compressed or chunked body, a slow reader, an image)
goes the ordinary way through ASGI, and with `server.fast_route = false` everything does. It leans on uvicorn's cycles:
the minor version is pinned, and a test names what is used here.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from inference.errors import InferenceError
from inference.request import Answer
from inference.servers.connection import Connection
from inference.servers.exchange import Exchange, Message, Pending, Response, no_receive, no_send
from inference.servers.http import App, head_lines
from inference.servers.plain_head import PlainHead, plain_head


class FastConnection(Connection):
    """One connection. `_fast` is the request of it that was last begun the fast way."""

    _fast: FastCycle | None = None

    def data_received(self, data: bytes) -> None:
        """A whole request with a head that is known is begun at once; everything else is the parser's."""
        app: Any = self.app
        if self.scope is not self._whole or self._held or self._leaving or not isinstance(app, App):
            super().data_received(data)
            return
        known, last, before = self._all.known_heads, self._fast, self.cycle
        head, begins = known.find(data)
        if head is None or not self._can_begin():
            super().data_received(data)
            fast = self._fast
            if fast is not None and fast is not last and fast is self.cycle and self.scope is self._whole:
                known.learn(data, begins, fast.head)
            return
        self._all.heard()
        self._received_bytes += len(data)
        scope: Any = {}
        self.scope = self._whole = scope
        fast = self._begin_fast(head, app)
        fast.body = data[begins:]
        if not fast.start():
            self.cycle = before
            known.forget(data, begins)
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins. What ASGI wants to know of it is put together once it is known that it goes there."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        scope: Any = {}
        self.scope = scope

    def on_headers_complete(self) -> None:
        """Begin a plain predict request the fast way, any other as usual. Raises HeadersTooLarge, MalformedHttp."""
        parser, app = self.parser, self.app
        if (
            isinstance(app, App)
            and parser.get_method() == b"POST"
            and self._can_begin()
            and not parser.should_upgrade()
        ):
            keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
            head = plain_head(app, self.url, self.headers, keep_alive=keep_alive)
            if head is not None:
                self._check_head()
                self._unread_bytes = 0
                self.scope["method"] = "POST"
                fast = self._begin_fast(head, app)
                if fast.refused:
                    self.loop.call_soon(fast.start)  # not at once: a row of refusals would call itself ever deeper
                return
        self._describe()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        super().on_message_complete()
        fast = self._fast
        if fast is not None and fast.scope is self.scope and not fast.start():
            self._go_the_ordinary_way(fast)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone, and nobody waits for the answer."""
        super().connection_lost(exc)
        if self._fast is not None:
            self._fast.abandon()

    def abandon(self) -> None:
        """Nobody waits for the request that is being read."""
        if self._fast is not None and self._fast.scope is self.scope:
            self._fast.abandon()
        else:
            super().abandon()

    def _can_begin(self) -> bool:
        """Whether nobody is before the next request, and its answer can be written."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _begin_fast(self, head: PlainHead, app: App) -> FastCycle:
        scope: Any = self.scope
        fast = self._fast = FastCycle(self, head, app, scope)
        cycle: Any = fast  # as uvicorn and Connection see it
        self.cycle = cycle
        return fast

    def default_lines(self) -> bytes:
        """Headers of every response, as they are sent."""
        return self._all.default_lines(self.server_state.default_headers)

    def _describe(self) -> None:
        """Put the scope of ASGI together, as uvicorn does when a request begins."""
        url, headers, expects_100 = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects_100
        self.headers += headers

    def _go_the_ordinary_way(self, fast: FastCycle) -> None:
        """Through ASGI after all."""
        fast.response_complete = True  # so that nobody waits for it
        self._describe()
        super().on_headers_complete()
        self.cycle.body += fast.body
        super().on_message_complete()


class _NobodyWaits:
    """In place of the event that wakes an ASGI application."""

    def set(self) -> None:
        pass


class FastCycle:
    """One request from the end of its headers to the end of its response, as uvicorn's connection sees a cycle."""

    __slots__ = (
        *("_app", "_begun", "_connection", "_exchange", "_pending", "_refusal"),
        *("body", "disconnected", "head", "keep_alive", "more_body", "response_complete", "scope"),
    )
    message_event = _NobodyWaits()

    def __init__(self, connection: FastConnection, head: PlainHead, app: App, scope: Message) -> None:
        self.head = head
        self.scope = scope
        self.body = b""
        self.more_body = True
        self.keep_alive = head.keep_alive
        self.response_complete = self.disconnected = self._begun = False
        self._connection = connection
        self._app = app
        self._exchange: Exchange = app.exchange(head.scope, head.headers, no_receive, no_send, head.path_params)
        self._pending: Pending | None = None
        refuse_early = head.route.refuse_early
        self._refusal = None if refuse_early is None else refuse_early(self._exchange)

    @property
    def refused(self) -> bool:
        """Whether the headers alone are enough to refuse it."""
        return self._refusal is not None

    def start(self) -> bool:
        """The body is whole, or not needed: read it and ask the engine. False if it has to go the ordinary way."""
        if self._begun or self.disconnected:
            return True
        self._begun = True
        if self._refusal is not None:
            self._respond_error(self._refusal)
            return True
        try:
            pending = self.head.route.begin(self._exchange, self.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            self._respond_error(error)
            return True
        if pending is None:
            return False
        self._pending = pending
        (pending.answerer or self._app.engine).submit(pending.request, self._answered)
        return True

    def abandon(self) -> None:
        """Nobody waits any more: the request's place is free, and what has not started never runs."""
        self.disconnected = True
        if self.response_complete:
            return
        self.response_complete = True
        self._app.observe(self.head.route.template, "POST", 499, "caller_gone")
        if self._pending is not None:
            (self._pending.answerer or self._app.engine).cancel(self._pending.request)

    def _answered(self, answer: Answer) -> None:
        """The engine's answer, once; the engine never calls back after a cancel."""
        pending = self._pending
        assert pending is not None
        if isinstance(answer, InferenceError):
            self._respond_error(answer)
            return
        app = self._app
        if app.predictions.enabled and pending.answerer is None:
            app.predictions.write(self._exchange.request_id, answer, pending.request.inputs)
        try:
            response = pending.respond(answer)
        except Exception as error:  # noqa: BLE001 - see start
            self._respond_error(error)
        else:
            self._respond(response)
            app.observe(self.head.route.template, "POST", response.status, "")

    def _respond_error(self, error: Exception) -> None:
        self._respond(self._app.error_response(self._exchange, self.head.route.template, error))

    def _respond(self, response: Response) -> None:
        connection = self._connection
        self.response_complete = True
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        parts = (STATUS_LINE[response.status], connection.default_lines(), head_lines(response, self._exchange), end)
        connection.transport.write(b"".join((*parts, response.body)))
        if not self.keep_alive:
            connection.close_gently()
        connection.on_response_complete()
