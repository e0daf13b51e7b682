"""`/v2`: the Open Inference Protocol over HTTP. What the bytes mean is in `protocols.open_inference`."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from inference.errors import InferenceError, MethodNotAllowed, ModelNotReady, NotFound, RouteNotFound, VersionNotFound
from inference.model_manager import ModelManager, Readiness
from inference.protocols.call_limits import TIMEOUT_HEADER, joined, read_headers
from inference.protocols.open_inference import (
    InferCall,
    read_header_length,
    read_infer,
    write_infer,
    write_model_metadata,
    write_object,
    write_server_metadata,
)
from inference.request import Prediction
from inference.served_model import ServedModel
from inference.servers.exchange import Exchange, Pending, Response, check_json_size
from inference.version import VERSION

SERVER_NAME = "glassai-inference"
BINARY = b"application/octet-stream"
HEADER_LENGTH = b"inference-header-content-length"
VERSION_DIGITS_MAX = 18
COMPRESS_BYTES_MIN = 1024  # below it, compressing costs more time than the bytes it saves
COMPRESS_ON_LOOP_BYTES_MAX = 64 * 1024  # about 1 ms; larger answers are compressed in a thread
COMPRESSION_LEVEL = 1
ENCODINGS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}  # deflate is zlib's format, as HTTP means it

Handler = Callable[[Exchange], Awaitable[Response]]

# After Triton's map: INVALID_ARG 400, NOT_FOUND 404, UNAVAILABLE 503, UNSUPPORTED 501, INTERNAL 500; and HTTP's own for
# the body and the deadline. NaN in a JSON answer is the caller's: the same call for binary outputs succeeds.
STATUS_BY_REASON: dict[str, int] = {
    "bad_request": 400,
    "malformed_body": 400,
    "unknown_field": 400,
    "invalid_values": 400,
    "invalid_tensor": 400,
    "inputs_rejected": 400,
    "invalid_image": 400,
    "non_finite_output": 400,
    "foreign_origin": 403,
    "not_found": 404,
    "model_not_found": 404,
    "version_not_found": 404,
    "method_not_allowed": 405,
    "row_conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "row_too_late": 422,
    "internal_error": 500,
    "run_failed": 500,
    "run_hung": 500,
    "run_crashed": 500,
    "unsupported": 501,
    "unavailable": 503,
    "queue_full": 503,
    "deadline_unreachable": 503,
    "line_unavailable": 503,
    "stopping": 503,
    "model_not_ready": 503,
    "deadline_passed": 504,
}


def error_response(error: InferenceError) -> Response:
    """The error as the protocol writes it: its status, and `{"error": text}`."""
    text = str(error)
    if isinstance(error, RouteNotFound):
        text = "Not Found"
    elif isinstance(error, MethodNotAllowed):
        text = "Method Not Allowed"
    return Response(STATUS_BY_REASON.get(error.reason, 500), write_object(error=text))


class OpenInference:
    """The handlers of `/v2` over the models that are served. `request_timeout_s` is the longest that a call may set."""

    def __init__(self, models: ModelManager, request_timeout_s: float, json_bytes_max: int) -> None:
        self._models = models
        self._request_timeout_s = request_timeout_s
        self._json_bytes_max = json_bytes_max

    def pages(self) -> dict[str, Mapping[str, Handler]]:
        """Path -> method -> handler, for all but the infer route. `{name}` and `{version}` are path parameters."""
        pages: dict[str, Mapping[str, Handler]] = {
            "/v2": {"GET": self.server_metadata},
            "/v2/": {"GET": self.server_metadata},
            "/v2/health/live": {"GET": self.live},
            "/v2/health/ready": {"GET": self.ready},
        }
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            pages[model] = {"GET": self.model_metadata}
            pages[f"{model}/ready"] = {"GET": self.model_ready}
        return pages

    async def infer(self, exchange: Exchange) -> Response:
        """POST /v2/models/{name}[/versions/{version}]/infer. Raises the InferenceError that ends the request."""
        served = self._models.resolve(*_model_of(exchange))
        pending = self._read(exchange, served, await exchange.body())
        response = pending.respond(await exchange.predict(pending.request))
        accepted = exchange.header(b"accept-encoding")
        if accepted is None or len(response.body) < COMPRESS_BYTES_MIN:
            return response
        return await _compressed(response, accepted)

    def refuse_early(self, exchange: Exchange) -> InferenceError | None:
        """What headers alone say against it: the model's name, a limit, or a time that cannot be kept."""
        if exchange.header(TIMEOUT_HEADER) is None:
            return None
        try:
            limits = read_headers(exchange.headers, self._request_timeout_s)
            served = self._models.resolve(*_model_of(exchange))
        except InferenceError as error:
            return error
        priority, deadline_s = served.place(exchange.arrived_s(), limits)
        return exchange.engine.refusal(served.key, priority, deadline_s)

    def begin(self, exchange: Exchange, body: bytes) -> Pending | None:
        """`infer` of a body that is here, up to the wait; None for a caller that may want its answer compressed."""
        accepted = exchange.headers.get(b"accept-encoding")
        if accepted is not None and choose_encoding(accepted.decode("latin-1")) is not None:
            return None
        return self._read(exchange, self._models.resolve(*_model_of(exchange)), body)

    def _read(self, exchange: Exchange, served: ServedModel, body: bytes) -> Pending:
        headers = read_headers(exchange.headers, self._request_timeout_s)
        header_length = read_header_length(exchange.header(HEADER_LENGTH), len(body))
        json_size = len(body) if header_length is None else header_length
        check_json_size(json_size, self._json_bytes_max, "send large tensors in the binary form")
        call = read_infer(body, header_length, served.key, served.signature)
        limits = joined(headers, call.parameters.limits)
        request = served.request(
            call.inputs,
            request_id=exchange.request_id,
            now=exchange.arrived_s(),
            limits=limits,
            parameters=call.group,
        )
        return Pending(request, partial(_answer, call))

    async def server_metadata(self, exchange: Exchange) -> Response:
        """GET /v2: name, version and extensions of the server."""
        return Response(200, write_server_metadata(SERVER_NAME, VERSION))

    async def live(self, exchange: Exchange) -> Response:
        """GET /v2/health/live: 200 as long as the loop answers."""
        return _health(exchange, 200, write_object(live=True))

    async def ready(self, exchange: Exchange) -> Response:
        """GET /v2/health/ready: 200 when every required model has answered its canary lately, else 503."""
        ready = self._models.readiness().ready
        return _health(exchange, 200 if ready else 503, write_object(ready=ready))

    async def model_metadata(self, exchange: Exchange) -> Response:
        """GET /v2/models/{name}[/versions/{version}]: signature of the version, versions that are served."""
        served = self._models.resolve(*_model_of(exchange))
        name = served.key.name
        versions = [s.key.version for s in self._models.index() if s.key.name == name and s.served is not None]
        return Response(200, write_model_metadata(name, versions, served.signature))

    async def model_ready(self, exchange: Exchange) -> Response:
        """GET /v2/models/{name}[/versions/{version}]/ready: 200 when its canary has answered lately, 404, else 503."""
        name, version = _model_of(exchange)
        try:
            status = self._models.status(name, version)
            readiness = self._models.model_readiness(name, version)
        except NotFound as error:
            return _health(exchange, STATUS_BY_REASON[error.reason], error_response(error).body)
        if readiness.ready:
            return _health(exchange, 200, write_object(name=name, ready=True))
        error = _not_ready(str(status.key), status.state, readiness)
        return _health(exchange, STATUS_BY_REASON[error.reason], error_response(error).body)


def _answer(call: InferCall, prediction: Prediction) -> Response:
    body, json_length = write_infer(call, prediction)
    if json_length is None:
        return Response(200, body)
    return Response(200, body, BINARY, ((HEADER_LENGTH, b"%d" % json_length),))


def _not_ready(model: str, state: str, readiness: Readiness) -> ModelNotReady:
    return ModelNotReady(model, "its canary has not answered" if state == "ready" else state, readiness.reasons)


def _health(exchange: Exchange, status: int, body: bytes) -> Response:
    """A health answer: with a body only for callers that send `Accept`.

    Clients of KServe read it. Triton's synchronous client leaves it unread and sends no `Accept`; with a body it would
    have to open a new connection for most calls.
    """
    return Response(status, body if exchange.header(b"accept") is not None else b"")


def _model_of(exchange: Exchange) -> tuple[str, int | None]:
    """Name and version in the path. A version is digits, or there is no such path."""
    name, version = exchange.path_params["name"], exchange.path_params.get("version")
    if version is None:
        return name, None
    if not (version.isascii() and version.isdigit()):
        raise RouteNotFound(exchange.path)
    if len(version) > VERSION_DIGITS_MAX:
        raise VersionNotFound(name, version, ())
    return name, int(version)


async def _compressed(response: Response, accept_encoding: bytes) -> Response:
    encoding = choose_encoding(accept_encoding.decode("latin-1"))
    if encoding is None:
        return response
    window = ENCODINGS[encoding]
    if len(response.body) <= COMPRESS_ON_LOOP_BYTES_MAX:
        body = zlib.compress(response.body, COMPRESSION_LEVEL, window)
    else:
        body = await asyncio.to_thread(zlib.compress, response.body, COMPRESSION_LEVEL, window)
    headers = (*response.headers, (b"content-encoding", encoding.encode()))
    return Response(response.status, body, response.content_type, headers)


def choose_encoding(accept_encoding: str) -> str | None:
    """gzip or deflate, whichever the caller likes better (gzip if it does not say), or None (RFC 9110, 12.5.3)."""
    best, best_weight = None, 0.0
    for part in accept_encoding.lower().split(","):
        name, _, parameter = part.partition(";")
        weight = _weight(parameter)
        if name.strip() in ENCODINGS and (weight > best_weight or (weight == best_weight and name.strip() == "gzip")):
            best, best_weight = name.strip(), weight
    return best if best_weight > 0 else None


def _weight(parameter: str) -> float:
    key, _, value = parameter.partition("=")
    if key.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
