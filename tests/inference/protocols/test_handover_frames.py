"""Frames between processes: their bytes, their pieces, and errors that are the same on both sides."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import errors
from inference.errors import InferenceError, InvalidValues, QueueFull, RowTooLate
from inference.fault import Fault
from inference.protocols.call_limits import NO_LIMITS, CallLimits
from inference.protocols.handover_frames import (
    FRAME_BYTES_MAX,
    Counters,
    CountersWanted,
    Frame,
    FrameError,
    FrameReader,
    HandedRow,
    RowAnswer,
    RowRefusal,
    Withdrawal,
    encoded,
    refusal,
)
from inference.request import Priority

ROW = HandedRow(7, "lstm", 2, "L1", b'{"pressure":15.5}', "req_1", 12.25)
FRAMES: list[Frame] = [
    ROW,
    HandedRow(8, "lstm", 2, "L1", b"{}", "req_2", 1.0, 1, 0.5),
    Withdrawal(7),
    CountersWanted(9),
    RowAnswer(7, b'{"result":1}'),
    RowRefusal(7, "queue_full", "Full.", (Fault("a", "b", "c"),), 1.0),
    Counters(9, b"\x90"),
]


def test_the_bytes_of_a_row_are_these() -> None:
    """Processes of one server are always of one version; this is so that a change is seen."""
    assert encoded(ROW).hex() == BYTES_OF_A_ROW


BYTES_OF_A_ROW = (
    "000000339aa3726f7707a46c73746d02a24c31c4117b227072657373757265223a31352e357da57265715f31cb4028800000000000c0c0"
)


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_frames_come_through_in_pieces_of_any_size(size: int) -> None:
    stream = b"".join(map(encoded, FRAMES))
    reader, found = FrameReader(), []
    for start in range(0, len(stream), size):
        found += reader.feed(stream[start : start + size])
    assert found == FRAMES


def test_a_row_says_what_its_caller_said() -> None:
    huge = 123456789012345678901234567890
    row = HandedRow(1, "m", 1, "L", json.dumps({"a": huge, "b": None}).encode(), "r", 0.0, 1, 0.25)
    assert row.fields == {"a": huge, "b": None}
    assert row.limits == CallLimits(Priority.CRITICAL, 0.25)
    assert ROW.limits == NO_LIMITS


@pytest.mark.parametrize(
    "error",
    [
        InvalidValues([Fault("data.pressure", "nothing", "a number")]),
        RowTooLate("L1", "10:00", "11:00"),
        QueueFull("m/1", "rows", 9, 10, 1.5),
        InferenceError("The server failed."),
    ],
)
def test_an_error_is_the_same_on_the_other_side(error: InferenceError) -> None:
    (frame,) = FrameReader().feed(encoded(refusal(3, error)))
    assert isinstance(frame, RowRefusal)
    there = frame.error
    assert (type(there), str(there), there.reason) == (type(error), str(error), error.reason)
    assert (there.details, there.retry_after_s) == (error.details, error.retry_after_s)


def test_every_reason_finds_a_class_that_has_it() -> None:
    def reasons(base: type[InferenceError]) -> set[str]:
        return {base.reason}.union(*map(reasons, base.__subclasses__()))

    assert "line_unavailable" in reasons(InferenceError)
    for reason in reasons(errors.InferenceError):
        assert RowRefusal(1, reason, "No.").error.reason == reason


def test_a_reason_of_nobody_is_an_internal_error() -> None:
    assert RowRefusal(1, "of_tomorrow", "No.").error.reason == "internal_error"


@pytest.mark.parametrize(
    "stream",
    [
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x01\x90",
        b"\x00\x00\x00\x09\x92\xa7unknown",
    ],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(stream))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_more_than_that(stream: bytes) -> None:
    with suppress(FrameError):
        assert list(FrameReader().feed(stream)) is not None


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(FrameError, match="accepted at most"):
        encoded(RowAnswer(1, bytes(FRAME_BYTES_MAX)))
