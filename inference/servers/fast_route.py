"""Answers plain predict requests from the parser's callbacks: no task, no ASGI messages, one write.

Limits, pipelining, keep-alive and the end of a connection are `servers.connection`'s. Reading, checking and the text of
errors are those of the handlers. Whatever is not plain (a large, compressed or chunked body, a slow reader, an image)
goes the ordinary way through ASGI, and with `server.fast_route = false` everything does. It leans on uvicorn's cycles:
the minor version is pinned, and a test names what is used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from inference.errors import InferenceError
from inference.request import Answer
from inference.servers.connection import Connection
from inference.servers.exchange import Exchange, Pending, Response
from inference.servers.http import App, PredictRoute, head

PLAIN_BODY_BYTES_MAX = 64 * 1024  # below it uvicorn reads on without being asked


class FastConnection(Connection):
    """One connection. `fast` is the request of it that is being answered the fast way."""

    fast: FastCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Whose turn it is: called when the headers are there, or the responses before it have been sent."""
        fast = None if self.flow.write_paused else _fast_cycle(self, cycle, app)
        if fast is None:
            super()._start_asgi_task(cycle, app)
            return
        self.fast = fast
        if fast.refused or not cycle.more_body:
            self.loop.call_soon(fast.start)  # not at once: a pipeline of refusals would call itself ever deeper

    def go_the_ordinary_way(self, cycle: RequestResponseCycle) -> None:
        """Through ASGI after all."""
        app: Any = self.app
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """The body is whole."""
        super().on_message_complete()
        fast = self.fast
        if fast is not None and fast.cycle is self.cycle:
            fast.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone, and nobody waits for the answer."""
        super().connection_lost(exc)
        if self.fast is not None:
            self.fast.abandon()

    def abandon(self) -> None:
        """Nobody waits for the request that is being read."""
        super().abandon()
        if self.fast is not None:
            self.fast.abandon()


def _fast_cycle(protocol: FastConnection, cycle: RequestResponseCycle, app: Any) -> FastCycle | None:
    """The fast way for this request, if it is as plain as that takes."""
    if not isinstance(app, App) or cycle.scope["method"] != "POST":
        return None
    found = app.predict_route(cycle.scope["path"])
    if found is None:
        return None
    headers = dict(cycle.scope["headers"])
    length = headers.get(b"content-length")
    if length is None or len(length) > 5 or int(length) > PLAIN_BODY_BYTES_MAX:
        return None
    if b"content-encoding" in headers or b"expect" in headers or b"transfer-encoding" in headers:
        return None
    return FastCycle(protocol, cycle, app, headers, *found)


class FastCycle:
    """One request from the end of its headers to the end of its response."""

    __slots__ = ("_app", "_begun", "_exchange", "_pending", "_protocol", "_refusal", "_route", "cycle")

    def __init__(
        self,
        protocol: FastConnection,
        cycle: RequestResponseCycle,
        app: App,
        headers: Mapping[bytes, bytes],
        route: PredictRoute,
        params: Mapping[str, str],
    ) -> None:
        self.cycle = cycle
        self._protocol = protocol
        self._app = app
        self._route = route
        asgi: Any = cycle  # whose types of ASGI's messages are narrower than ours
        self._exchange: Exchange = app.exchange(asgi.scope, headers, asgi.receive, asgi.send, params)
        self._pending: Pending | None = None
        self._refusal = None if route.refuse_early is None else route.refuse_early(self._exchange)
        self._begun = False

    @property
    def refused(self) -> bool:
        """Whether the headers alone are enough to refuse it."""
        return self._refusal is not None

    def start(self) -> None:
        """The body is whole, or not needed: read it and ask the engine."""
        if self._begun or self._protocol.fast is not self:
            return
        self._begun = True
        if self._refusal is not None:
            self._respond_error(self._refusal)
            return
        try:
            pending = self._route.begin(self._exchange, bytes(self.cycle.body))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            self._respond_error(error)
            return
        if pending is None:
            self._protocol.fast = None
            self._protocol.go_the_ordinary_way(self.cycle)
            return
        self._pending = pending
        (pending.answerer or self._app.engine).submit(pending.request, self._answered)

    def abandon(self) -> None:
        """Nobody waits any more: the request's place is free, and what has not started never runs."""
        self._protocol.fast = None
        if not self.cycle.response_complete:
            self._app.observe(self._route.template, "POST", 499, "caller_gone")
        if self._pending is not None:
            (self._pending.answerer or self._app.engine).cancel(self._pending.request)

    def _answered(self, answer: Answer) -> None:
        """The engine's answer, once; the engine never calls back after a cancel."""
        assert self._pending is not None
        if isinstance(answer, InferenceError):
            self._respond_error(answer)
            return
        predictions = self._app.predictions
        if predictions.enabled and self._pending.answerer is None:
            predictions.write(self._exchange.request_id, answer, self._pending.request.inputs)
        try:
            response = self._pending.respond(answer)
        except Exception as error:  # noqa: BLE001 - see start
            self._respond_error(error)
        else:
            self._app.observe(self._route.template, "POST", response.status, "")
            self._respond(response)

    def _respond_error(self, error: Exception) -> None:
        self._respond(self._app.error_response(self._exchange, self._route.template, error))

    def _respond(self, response: Response) -> None:
        cycle, protocol = self.cycle, self._protocol
        protocol.fast = None
        headers = (*cycle.default_headers, *head(response, self._exchange))
        lines = [STATUS_LINE[response.status], *[b"%b: %b\r\n" % header for header in headers]]
        lines += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", response.body)
        cycle.response_started = cycle.response_complete = True
        protocol.transport.write(b"".join(lines))
        if not cycle.keep_alive:
            protocol.close_gently()
        cycle.on_response()
