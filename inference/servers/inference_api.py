"""`/api/inference`: the product's own API. What the bytes mean is in `protocols.inference_json`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from inference.errors import InferenceError, InvalidValues, NonFiniteOutput, QueueFull, UnknownField, UnsupportedMedia
from inference.fault import Fault
from inference.model_manager import ModelManager
from inference.pipeline.sample import Prepared, Sample
from inference.protocols.call_limits import CallLimits, joined, read_fields, read_headers, read_timeout_text
from inference.protocols.handover_frames import HandedRow
from inference.protocols.inference_json import decode_call, encode_answer, encode_error, version_number
from inference.request import Prediction
from inference.served_model import ServedModel
from inference.servers.exchange import Exchange, IdSource, Pending, Response, check_json_size
from inference.servers.handover import Neighbours
from inference.settings import Settings

DECODERS_MAX = 4  # threads that decode images; each holds one decoded picture (3 bytes a pixel)
IMAGES_WAITING_MAX = 64  # for a decoder: about 0.2 s of pictures of 1 megapixel on two threads
RETRY_AFTER_S = 1.0
IMAGE_QUERY = ("model_name", "model_version", "priority", "timeout_ms")

STATUS_BY_REASON: dict[str, int] = {
    "bad_request": 400,
    "malformed_body": 400,
    "unknown_field": 400,
    "unsupported": 400,
    "foreign_origin": 403,
    "not_found": 404,
    "model_not_found": 404,
    "version_not_found": 404,
    "method_not_allowed": 405,
    "row_conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid_values": 422,
    "invalid_tensor": 422,
    "inputs_rejected": 422,
    "invalid_image": 422,
    "row_too_late": 422,
    "internal_error": 500,
    "run_failed": 500,
    "run_hung": 500,
    "run_crashed": 500,
    "non_finite_output": 500,
    "unavailable": 503,
    "queue_full": 503,
    "deadline_unreachable": 503,
    "line_unavailable": 503,
    "stopping": 503,
    "model_not_ready": 503,
    "deadline_passed": 504,
}


def error_response(error: InferenceError) -> Response:
    """The error with its status and `{"error", "reason", "details"}` as body."""
    return Response(STATUS_BY_REASON.get(error.reason, 500), encode_error(error))


class InferenceApi:
    """The handlers of `/api/inference` over the models that are served."""

    def __init__(
        self,
        models: ModelManager,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._models = models
        self._clock = clock
        self._neighbours = neighbours
        self._timeout_s = settings.server.request_timeout_s
        self._json_bytes_max = settings.server.json_bytes_max
        self._image_bytes_max = settings.images.bytes_max
        self._image_types = tuple(f"image/{name}" for name in settings.images.formats)
        self._prediction_ids = IdSource("pred_")
        self._decoders = ThreadPoolExecutor(min(DECODERS_MAX, os.cpu_count() or 1), thread_name_prefix="decoder")
        self._waiting_images = 0

    async def predict_stream(self, exchange: Exchange) -> Response:
        """POST /api/inference/stream: one prediction. Raises the InferenceError that ends the request.

        A valid row is part of its line's window from here on, whether or not the engine then takes the request.
        """
        pending = await self._read_and_begin(exchange)
        return pending.respond(await exchange.predict(pending.request, pending.answerer))

    def begin(self, exchange: Exchange, body: bytes) -> Pending | None:
        """`predict_stream` of a JSON body that is here, up to the wait; None for whatever is not that simple."""
        if media_type(exchange.header(b"content-type")) != "application/json" or exchange.scope["query_string"]:
            return None
        arrived_s = exchange.arrived_s()
        headers = read_headers(exchange.headers, self._timeout_s)
        served, sample, own = self._read_json(body, arrived_s)
        limits = joined(headers, own)  # before the row enters its line's window
        if served.pipeline.blocking:
            return None
        return self.begin_sample(served, sample, arrived_s, limits, exchange.request_id)

    def begin_sample(
        self, served: ServedModel, sample: Sample, arrived_s: float, limits: CallLimits, request_id: str
    ) -> Pending:
        """The request for a sample of a model that does not block; a row of a line goes to the line's process.

        A valid row enters its line's window here. Raises CallerError.
        """
        if self._neighbours is not None and sample.stream_id is not None and served.pipeline.keeps_lines:
            elsewhere = self._neighbours.begin(served, sample, arrived_s, limits, request_id)
            if elsewhere is not None:
                return elsewhere
        return self._pending(served, served.pipeline.prepare(sample), arrived_s, limits)

    async def begin_picture(self, served: ServedModel, sample: Sample, arrived_s: float, limits: CallLimits) -> Pending:
        """The request for a sample of a model that blocks, decoded in a thread first. Raises CallerError, QueueFull."""
        return self._pending(served, await self._decoded(served, sample), arrived_s, limits)

    def take_over(self, row: HandedRow) -> Pending:
        """The request for a row that another process was given, of a line of this process. Raises InferenceError."""
        served = self._models.resolve(row.model, row.version)
        sample = Sample(row.fields, None, row.stream_id, time.time_ns() // 1000, self._clock())
        return self._pending(served, served.pipeline.prepare(sample), row.arrived_s, row.limits)

    def _pending(self, served: ServedModel, prepared: Prepared, arrived_s: float, limits: CallLimits) -> Pending:
        prediction_id = self._prediction_ids()
        request = served.request(prepared.tensors, request_id=prediction_id, now=arrived_s, limits=limits)

        def respond(prediction: Prediction) -> Response:
            if prediction.non_finite:
                raise NonFiniteOutput(served.label, prediction.non_finite)
            result = served.pipeline.result(prediction.outputs, prepared, self._clock() - arrived_s)
            return Response(200, encode_answer(prediction_id, served.key.name, served.key.version, result))

        return Pending(request, respond)

    async def _read_and_begin(self, exchange: Exchange) -> Pending:
        """The request; body and sample are let go here, before it waits."""
        arrived_s = exchange.arrived_s()
        headers = read_headers(exchange.headers, self._timeout_s)
        served, sample, own = await self._read(exchange, arrived_s)
        limits = joined(headers, own)  # before the row enters its line's window
        if served.pipeline.blocking:
            return await self.begin_picture(served, sample, arrived_s, limits)
        return self.begin_sample(served, sample, arrived_s, limits, exchange.request_id)

    async def _read(self, exchange: Exchange, now_s: float) -> tuple[ServedModel, Sample, CallLimits]:
        """The model that is asked, and what it is to judge: a JSON body, or an image whose model the query names."""
        query = exchange.query
        content_type = media_type(exchange.header(b"content-type"))
        if content_type in self._image_types:
            unknown = [name for name in query if name not in IMAGE_QUERY]
            if unknown:
                raise UnknownField("query", unknown, IMAGE_QUERY)
            if "model_name" not in query:
                raise InvalidValues([Fault("query.model_name", "nothing", "the name of the model that is asked")])
            version = version_number(query["model_version"]) if "model_version" in query else None
            served = self._models.resolve(query["model_name"], version)
            timeout_ms = read_timeout_text(query["timeout_ms"]) if "timeout_ms" in query else None
            limits = read_fields(query.get("priority"), timeout_ms, self._timeout_s)
            return (
                served,
                Sample({}, await exchange.body(self._image_bytes_max), None, time.time_ns() // 1000, now_s),
                limits,
            )
        if content_type != "application/json":
            raise UnsupportedMedia("content-type", content_type, ["application/json", *self._image_types])
        if query:
            raise UnknownField("query", list(query), ())
        return self._read_json(await exchange.body(), now_s)

    def _read_json(self, body: bytes, now_s: float) -> tuple[ServedModel, Sample, CallLimits]:
        check_json_size(len(body), self._json_bytes_max, "send a large image itself, as image/jpeg or image/png")
        call = decode_call(body)
        served = self._models.resolve(call.model_name, call.version)
        limits = read_fields(call.priority, call.timeout_ms, self._timeout_s)
        return served, Sample(call.data, None, call.stream_id, time.time_ns() // 1000, now_s), limits

    async def _decoded(self, served: ServedModel, sample: Sample) -> Prepared:
        """`prepare` in a decoder's thread. Raises QueueFull while too many images wait for one."""
        if self._waiting_images >= IMAGES_WAITING_MAX:
            raise QueueFull(str(served.key), "images", self._waiting_images, IMAGES_WAITING_MAX, RETRY_AFTER_S)
        self._waiting_images += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, served.pipeline.prepare, sample)
        finally:
            self._waiting_images -= 1


def media_type(header: bytes | None) -> str:
    """The type without its parameters, in lower case; a body without one is taken for JSON."""
    if header is None or header == b"application/json":
        return "application/json"
    return header.split(b";", 1)[0].strip().lower().decode("latin-1")
