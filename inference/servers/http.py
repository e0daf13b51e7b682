"""The HTTP application: which path goes where, and how an error becomes a response.

The two predict routes are plain ASGI, since routing and middleware cost as much as a small model. Everything else is
routed by Starlette. Every handler takes an Exchange and gives back a Response.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.routing import Route, Router

from inference.engine import Engine
from inference.errors import InferenceError, MethodNotAllowed, RouteNotFound
from inference.monitoring.logs import PredictionLog
from inference.protocols.stream_messages import StreamQuery
from inference.servers import inference_api, open_inference
from inference.servers.exchange import (
    Begin,
    CallerGone,
    Exchange,
    HangUpWatch,
    IdSource,
    InternalError,
    Message,
    Pending,
    Receive,
    Receiving,
    Response,
    Send,
    request_id_of,
)
from inference.servers.loop_round import LoopRound

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[Response]]
Observe = Callable[[str, str, int, str], None]

CROWDED_SWITCH_S = 0.002
PATHS_KEPT = 1024  # whose route is remembered; some 300 bytes each
NO_PARAMS: Mapping[str, str] = {}
FAULTS_OF_MODELS = frozenset({"run_failed", "run_hung", "run_crashed"})  # logged as errors; no caller is to blame
STREAM_PATH = "/api/inference/stream"
INFER_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")


@dataclass(slots=True, frozen=True)
class PredictRoute:
    """A route that predicts: `begin` for a plain body that is here, `handler` for every other.

    `refuse_early` is asked once the headers are here, before the body is read: what it returns is the answer.
    """

    template: str
    handler: Handler
    begin: Begin
    refuse_early: Callable[[Exchange], InferenceError | None] | None = None

    async def handle(self, exchange: Exchange) -> Response:
        """The handler's response. Raises InferenceError."""
        refusal = None if self.refuse_early is None else self.refuse_early(exchange)
        if refusal is not None:
            raise refusal
        return await self.handler(exchange)


class BeginMessage(Protocol):
    """Begins the prediction of one message."""

    def __call__(
        self, exchange: Exchange, query: StreamQuery, message: bytes, *, is_text: bool
    ) -> Pending | Awaitable[Pending]:
        """The request, awaitable where reading it takes long. Raises InferenceError."""
        ...


@dataclass(slots=True, frozen=True)
class StreamRoute:
    """The WebSocket form of STREAM_PATH, and what one connection may take.

    At most `window` messages are without a reply; a caller is asked for a sign of life every `silence_max_s`, and one
    message may take `message_max_s` to arrive.
    """

    open: Callable[[Exchange], StreamQuery]
    begin: BeginMessage
    count_connections: Callable[[int], None]
    window: int
    message_bytes_max: int
    message_max_s: float
    silence_max_s: float


@dataclass(slots=True, frozen=True)
class Page:
    """One path: its handlers by method."""

    path: str
    handlers: Mapping[str, Handler]


class App:
    """The ASGI application.

    `stream` and `infer` answer the two predict routes, `pages` all others; `observe(path, method, status, reason)` is
    told of every answer. `fast_route` answers plain bodies of the predict routes without coming through here.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        stream: PredictRoute,
        stream_rows: StreamRoute,
        infer: PredictRoute,
        pages: Sequence[Page],
        body_bytes_max: int,
        receiving_bytes_max: int,
        observe: Observe,
        predictions: PredictionLog,
    ) -> None:
        self.engine = engine
        self._stream = stream
        self.stream_rows = stream_rows
        self._infer = infer
        # The predict route of a path, and the path's parameters.
        self.predict_route = functools.lru_cache(PATHS_KEPT)(self._predict_route)
        self.body_bytes_max = body_bytes_max
        self._receiving = Receiving(receiving_bytes_max)
        self.observe = observe
        self.predictions = predictions
        self._watch = HangUpWatch()
        self.rounds = LoopRound(engine.clock, self._note_round, engine.is_calm)
        self._crowded = False
        self._switch_s = sys.getswitchinterval()
        self._request_ids = IdSource("req_")
        routes = [Route(page.path, endpoint=_Endpoint(self, page)) for page in pages]
        self._router = Router(routes=routes, redirect_slashes=False, default=_Endpoint(self, None))

    def _note_round(self, seconds: float, crowded: bool) -> None:
        """Rounds of the loop take so long now, and it no longer rests, or does again.

        A loop that never rests would keep the interpreter from the runners for a whole switch interval each time.
        """
        self.engine.observe_round(seconds)
        if crowded is not self._crowded:
            self._crowded = crowded
            sys.setswitchinterval(CROWDED_SWITCH_S if crowded else self._switch_s)
            # Not always: answers that are collected early make smaller batches.
            self.rounds.meanwhile = self.engine.collect if crowded else None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        found = self.predict_route(scope["path"])
        if found is None:
            await self._router(scope, receive, send)
        else:
            route, params = found
            await self.answer(route.template, {"POST": route.handle}, scope, receive, send, params)

    def _predict_route(self, path: str) -> tuple[PredictRoute, Mapping[str, str]] | None:
        if path == STREAM_PATH:
            return self._stream, NO_PARAMS
        if path.startswith("/v2/models/") and (match := INFER_PATH.fullmatch(path)) is not None:
            name, version = match.groups()
            return self._infer, {"name": name} if version is None else {"name": name, "version": version}
        return None

    def exchange(
        self, scope: Message, headers: Mapping[bytes, bytes], receive: Receive, send: Send, params: Mapping[str, str]
    ) -> Exchange:
        """This request as handlers see it."""
        request_id = request_id_of(headers, self._request_ids)
        limit, log_of = self.body_bytes_max, self.predictions
        server = (self.engine, self._watch, limit, request_id, log_of, params, self._receiving, self.rounds)
        return Exchange(scope, headers, receive, send, *server)

    async def answer(
        self,
        route: str,
        handlers: Mapping[str, Handler] | None,
        scope: Message,
        receive: Receive,
        send: Send,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Run the handler of this method and send its response, or the one that its error becomes."""
        exchange = self.exchange(scope, dict(scope["headers"]), receive, send, params or NO_PARAMS)
        try:
            response = await _handler(handlers, scope)(exchange)
        except CallerGone:
            self.observe(route, scope["method"], 499, "caller_gone")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            response = self.error_response(exchange, route, error)
        else:
            self.observe(route, scope["method"], response.status, "")
        await send({"type": "http.response.start", "status": response.status, "headers": head(response, exchange)})
        await send({"type": "http.response.body", "body": response.body})

    def error_response(self, exchange: Exchange, route: str, error: Exception) -> Response:
        """What an error becomes; it is counted and logged here."""
        if not isinstance(error, InferenceError):
            log.error("request failed", exc_info=error, extra={"request_id": exchange.request_id})
            error = InternalError(exchange.request_id)
        level = logging.ERROR if error.reason in FAULTS_OF_MODELS else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "%s", error, extra={"request_id": exchange.request_id, "error": error})
        api = open_inference if exchange.path == "/v2" or exchange.path.startswith("/v2/") else inference_api
        response = api.error_response(error)
        self.observe(route, exchange.method, response.status, error.reason)
        headers = list(response.headers)
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(math.ceil(error.retry_after_s)).encode()))
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        if exchange.ends_connection:
            headers.append((b"connection", b"close"))
        return Response(response.status, response.body, response.content_type, tuple(headers))


def head(response: Response, exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The headers of a response."""
    return [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-request-id", exchange.request_id.encode()),
        *response.headers,
    ]


def head_lines(response: Response, exchange: Exchange) -> bytes:
    """`head` as it is sent."""
    facts = (response.content_type, len(response.body), exchange.request_id.encode())
    lines = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % facts
    if response.headers:
        lines += b"".join([b"%b: %b\r\n" % header for header in response.headers])
    return lines


@dataclass(slots=True, frozen=True)
class _Endpoint:
    """A page as the ASGI application that Starlette's router calls; without a page, the answer to an unknown path."""

    app: App
    page: Page | None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        route, handlers = (self.page.path, self.page.handlers) if self.page else ("unknown", None)
        await self.app.answer(route, handlers, scope, receive, send, scope.get("path_params", {}))


def _handler(handlers: Mapping[str, Handler] | None, scope: Message) -> Handler:
    if handlers is None:
        raise RouteNotFound(scope["path"])
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    handler = handlers.get(method)
    if handler is None:
        raise MethodNotAllowed(scope["method"], handlers)
    return handler
