"""The WebSocket form of a call: what its query says for all messages, and what one message holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from inference.errors import InvalidValues, UnknownField
from inference.fault import Fault
from inference.protocols.call_limits import CallLimits, read_fields, read_timeout_text
from inference.protocols.inference_json import version_number
from inference.protocols.json_body import check_levels, read_json

QUERY_FIELDS = ("model_name", "model_version", "stream_id", "priority", "timeout_ms")
EXPECTED = 'a JSON object with the values for the model, which is the "data" of a POST'

_DATA = msgspec.json.Decoder(dict[str, Any])


class StreamQuery(NamedTuple):
    """Whom every message of a stream asks, and how."""

    model_name: str
    version: int | None  # None: the one that is served by default when a message comes
    stream_id: str | None
    limits: CallLimits


def read_query(query: Mapping[str, str], timeout_max_s: float) -> StreamQuery:
    """The query that opens a stream. Raises UnknownField, InvalidValues, MalformedBody (of a version)."""
    unknown = [name for name in query if name not in QUERY_FIELDS]
    if unknown:
        raise UnknownField("query", unknown, QUERY_FIELDS)
    if "model_name" not in query:
        raise InvalidValues([Fault("query.model_name", "nothing", "the name of the model that is asked")])
    version = version_number(query["model_version"]) if "model_version" in query else None
    timeout_ms = read_timeout_text(query["timeout_ms"]) if "timeout_ms" in query else None
    limits = read_fields(query.get("priority"), timeout_ms, timeout_max_s)
    return StreamQuery(query["model_name"], version, query.get("stream_id"), limits)


def decode_data(message: bytes) -> dict[str, Any]:
    """The fields of a text message. Raises MalformedBody."""
    check_levels(message)
    return read_json(_DATA, message, EXPECTED, {})
