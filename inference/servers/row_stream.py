"""What the messages of a WebSocket at `/api/inference/stream` ask: each is the `data` of a POST."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from inference.errors import InvalidValues, Stopping, UnknownField, UnsupportedMedia
from inference.fault import Fault, quoted
from inference.model_manager import ModelManager
from inference.pipeline.sample import Sample
from inference.pipeline.sensor_window import STREAM_ID_CHARS_MAX
from inference.protocols.call_limits import joined, read_headers
from inference.protocols.stream_messages import QUERY_FIELDS, StreamQuery, decode_data, read_query
from inference.servers.exchange import Exchange, Pending, check_json_size
from inference.servers.inference_api import InferenceApi
from inference.settings import ServerSettings


class RowStream:
    """Reads queries and messages; what becomes of a sample is what becomes of a POST's."""

    def __init__(self, api: InferenceApi, models: ModelManager, settings: ServerSettings) -> None:
        self._api = api
        self._models = models
        self._timeout_s = settings.request_timeout_s
        self._json_bytes_max = settings.json_bytes_max

    def open(self, exchange: Exchange) -> StreamQuery:
        """What query and headers say for all messages. Raises CallerError, Stopping, ModelNotReady."""
        if exchange.engine.stopping:
            raise Stopping
        query = read_query(exchange.query, self._timeout_s)
        limits = joined(read_headers(exchange.headers, self._timeout_s), query.limits)
        served = self._models.resolve(query.model_name, query.version)
        if query.stream_id is not None:
            if not served.pipeline.keeps_lines:
                raise UnknownField("query", ["stream_id"], [name for name in QUERY_FIELDS if name != "stream_id"])
            if not 0 < len(query.stream_id) <= STREAM_ID_CHARS_MAX:
                accepted = f"text of 1 to {STREAM_ID_CHARS_MAX} characters"
                raise InvalidValues([Fault("stream_id", quoted(query.stream_id), accepted)])
        return query._replace(limits=limits)

    def begin(
        self, exchange: Exchange, query: StreamQuery, message: bytes, *, is_text: bool
    ) -> Pending | Awaitable[Pending]:
        """The request of one message; awaitable where a picture is decoded first. Raises InferenceError.

        A valid row is part of its line's window when this returns.
        """
        arrived_s = exchange.arrived_s()
        served = self._models.resolve(query.model_name, query.version)
        sample = Sample({}, None, query.stream_id, time.time_ns() // 1000, arrived_s)
        if is_text:
            check_json_size(len(message), self._json_bytes_max, "send a large image itself, as a binary message")
            sample.fields = decode_data(message)
        elif served.pipeline.blocking:
            sample.image_file = message
        else:
            raise UnsupportedMedia("message", "binary", ["text with a JSON object"])
        if served.pipeline.blocking:
            return self._api.begin_picture(served, sample, arrived_s, query.limits)
        return self._api.begin_sample(served, sample, arrived_s, query.limits, exchange.request_id)
