"""Priority and time limit of a call."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidValues
from inference.protocols.call_limits import (
    NO_LIMITS,
    CallLimits,
    joined,
    read_fields,
    read_headers,
    read_timeout_text,
)
from inference.request import Priority


def test_a_call_that_says_nothing_has_no_limits() -> None:
    assert read_headers({b"content-type": b"application/json"}, 30.0) is NO_LIMITS
    assert read_fields(None, None, 30.0) is NO_LIMITS


def test_headers_name_the_band_and_milliseconds() -> None:
    headers = {b"x-priority": b" Critical", b"x-timeout-ms": b"25.5"}
    assert read_headers(headers, 30.0) == CallLimits(Priority.CRITICAL, 0.0255)


def test_every_wrong_header_is_named_with_what_is_accepted() -> None:
    with pytest.raises(InvalidValues) as refused:
        read_headers({b"x-priority": b"urgent", b"x-timeout-ms": b"soon"}, 30.0)
    assert [(fault.field, fault.given) for fault in refused.value.details] == [
        ("X-Priority", "'urgent'"),
        ("X-Timeout-Ms", "'soon'"),
    ]
    assert "critical, high, normal or low" in str(refused.value)


def test_the_band_of_jobs_cannot_be_named_by_a_caller() -> None:
    with pytest.raises(InvalidValues, match="X-Priority: given 'background', accepted critical, high, normal or low"):
        read_headers({b"x-priority": b"background"}, 30.0)
    with pytest.raises(InvalidValues, match="priority: given 'Background', accepted critical, high, normal or low"):
        read_fields("Background", None, 30.0)


@pytest.mark.parametrize("timeout_ms", [0.0, -1.0, 30_001.0, math.nan, math.inf])
def test_a_time_that_cannot_be_kept_is_refused(timeout_ms: float) -> None:
    with pytest.raises(InvalidValues, match=r"at most 30000 \(server\.request_timeout_s\)"):
        read_fields(None, timeout_ms, 30.0)


def test_header_and_body_complete_each_other() -> None:
    header, body = CallLimits(Priority.HIGH, None), CallLimits(None, 0.5)
    assert joined(header, body) == joined(body, header) == CallLimits(Priority.HIGH, 0.5)
    assert joined(header, NO_LIMITS) == joined(NO_LIMITS, header) == header


def test_header_and_body_that_disagree_are_refused() -> None:
    with pytest.raises(InvalidValues, match="low in the body and high in the header"):
        joined(CallLimits(Priority.HIGH, 1.0), CallLimits(Priority.LOW, 1.0))


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_no_header_is_more_than_a_refusal(priority: bytes, timeout: bytes) -> None:
    try:
        limits = read_headers({b"x-priority": priority, b"x-timeout-ms": timeout}, 30.0)
    except InvalidValues:
        return
    assert limits.priority is not None
    assert limits.timeout_s is not None
    assert 0 < limits.timeout_s <= 30.0


@given(st.text(max_size=64))
def test_what_is_no_number_is_nan(text: str) -> None:
    assert isinstance(read_timeout_text(text), float)


def test_a_query_that_is_no_number_is_told_so() -> None:
    with pytest.raises(InvalidValues, match="timeout_ms: given no number, accepted milliseconds above 0"):
        read_fields(None, read_timeout_text("soon"), 30.0)
