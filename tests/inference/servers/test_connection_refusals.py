"""Refusals of a connection as they are written."""

from __future__ import annotations

import io

import pytest

from inference.errors import InferenceError
from inference.servers.connection_refusals import (
    STATUS_BY_REASON,
    Broken,
    CallerTooSlow,
    HeadersTooLarge,
    MalformedHttp,
    TooManyConnections,
    refusal,
)
from tests.inference.raw_http import read_answer

REFUSALS: list[InferenceError] = [
    MalformedHttp("Invalid method encountered"),
    HeadersTooLarge("101 headers", "at most 100"),
    CallerTooSlow("body", "all of it within 60 s"),
    TooManyConnections(4096),
    Broken(),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.reason)
def test_a_refusal_is_a_whole_response_that_ends_the_connection(error: InferenceError):
    written = refusal(error, [(b"date", b"today")])
    reader = io.BytesIO(written)
    answer = read_answer(reader)
    assert answer is not None
    assert answer.status == STATUS_BY_REASON[error.reason]
    assert answer.headers["connection"] == "close"
    assert answer.headers["date"] == "today"
    assert (answer.json["error"], answer.json["reason"]) == (str(error), error.reason)
    assert reader.read() == b""
    assert ("retry-after" in answer.headers) is (answer.status == 503)


def test_every_refusal_has_its_status():
    assert {error.reason for error in REFUSALS} == STATUS_BY_REASON.keys()
