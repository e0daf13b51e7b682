"""The query that opens a stream, and the messages of it."""

from __future__ import annotations

import pytest

from inference.errors import InvalidValues, MalformedBody, UnknownField
from inference.protocols.call_limits import CallLimits
from inference.protocols.stream_messages import QUERY_FIELDS, StreamQuery, decode_data, read_query
from inference.request import Priority


def test_a_query_says_whom_every_message_asks() -> None:
    assert read_query({"model_name": "m"}, 30.0) == StreamQuery("m", None, None, CallLimits())
    given = {"model_name": "m", "model_version": "2", "stream_id": "L1", "priority": "high", "timeout_ms": "250"}
    assert given.keys() == set(QUERY_FIELDS)
    assert read_query(given, 30.0) == StreamQuery("m", 2, "L1", CallLimits(Priority.HIGH, 0.25))


@pytest.mark.parametrize(
    ("query", "error", "names"),
    [
        ({}, InvalidValues, "model_name"),
        ({"model_name": "m", "stream": "L1"}, UnknownField, "stream_id"),
        ({"model_name": "m", "model_version": "latest"}, MalformedBody, "model_version"),
        ({"model_name": "m", "priority": "urgent"}, InvalidValues, "critical"),
        ({"model_name": "m", "timeout_ms": "31000"}, InvalidValues, "30000"),
        ({"model_name": "m", "timeout_ms": ""}, InvalidValues, "timeout_ms"),
    ],
)
def test_a_query_that_cannot_be_honoured_is_refused(query: dict[str, str], error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        read_query(query, 30.0)


def test_a_message_is_the_data_of_a_post() -> None:
    assert decode_data(b'{"pressure": 15.5, "timestamp": null}') == {"pressure": 15.5, "timestamp": None}


@pytest.mark.parametrize("message", [b"", b"1", b"[]", b"null", b'{"a":', b"{} {}", b'{"a": NaN}', b"[" * 3000])
def test_anything_else_is_malformed(message: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_data(message)
