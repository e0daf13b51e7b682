"""Frames between a server and the host of its jobs: everything arrives as it was, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.device import Device
from inference.errors import InferenceError, InputsRejected, QueueFull
from inference.fault import Fault
from inference.job_errors import JobNotFound, SourceInvalid
from inference.model import Signature
from inference.protocols import job_frames
from inference.protocols.child_frames import PREFIX, FrameInvalid, TensorHead
from inference.protocols.job_frames import (
    Command,
    Event,
    FindModel,
    FoundModel,
    Frame,
    FrameReader,
    RanRows,
    Refused,
    Reply,
    RunRows,
    Withdraw,
    encoded,
    refused,
    rows_that_ran,
    rows_to_run,
)
from inference.tensor import DTYPES, Tensors, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
FRAMES: list[Frame] = [
    Command(1, "create", b'{"model_name":"m"}'),
    Reply(1, b'{"job_id":"job_1"}'),
    Event(2, "progress", b"{}"),
    Refused(3, "queue_full", "Full.", (Fault("a", "b", "c"),), 1.0, ("one", "two")),
    Withdraw(3),
    FindModel(4, "lstm"),
    FindModel(5, "lstm", 2),
    FoundModel(4, "lstm", 2, "00ff", SIGNATURE, Device("cpu"), 64),
    RunRows(6, "lstm", 2, ()),
    RanRows(6, ()),
]
BYTES_OF_A_COMMAND = "84a474797065a7436f6d6d616e64a66e756d62657201a476657262a46c697374a7636f6e74656e74c4027b7d"


def received(content: bytes, sizes: int = 1 << 30) -> list[tuple[Frame, Tensors]]:
    """The frames of these bytes, which come in pieces of at most so many."""
    reader, found, start = FrameReader(), [], 0
    while start < len(content):
        space = reader.space[:sizes]
        piece = content[start : start + len(space)]
        space[: len(piece)] = piece
        whole = reader.filled(len(piece))
        start += len(piece)
        if whole is not None:
            found.append(whole)
    return found


def test_the_bytes_of_a_command_are_these() -> None:
    """Server and host are always of one version; this is so that a change is seen."""
    header = bytes.fromhex(BYTES_OF_A_COMMAND)
    padding = bytes(64 - len(header))
    assert b"".join(encoded(Command(1, "list", b"{}"))) == PREFIX.pack(len(header), 0) + header + padding


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_every_frame_comes_through_in_pieces_of_any_size(size: int) -> None:
    content = b"".join(piece for frame in FRAMES for piece in encoded(frame))
    assert received(content, size) == [(frame, {}) for frame in FRAMES]


@given(
    st.lists(st.sampled_from([name for name in DTYPES if name != "BYTES"]), max_size=4),
    st.lists(st.integers(0, 5), max_size=3),
    st.integers(1, 200),
)
def test_tensors_of_every_type_and_shape_arrive_as_they_were(datatypes: list[str], shape: list[int], size: int) -> None:
    inputs = {f"t{n}": np.ones(shape, DTYPES[name]) for n, name in enumerate(datatypes)}
    inputs["strings"] = np.array(["ab", "", "ü"], np.object_)
    content = b"".join(rows_to_run(9, "lstm", 3, inputs)) + b"".join(rows_that_ran(9, inputs))
    (asked, ran), (answer, outputs) = received(content, size)
    assert isinstance(asked, RunRows)
    assert (asked.number, asked.name, asked.version) == (9, "lstm", 3)
    assert isinstance(answer, RanRows)
    for found in (ran, outputs):
        assert list(found) == list(inputs)
        for name, array in inputs.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_tensors_are_views_that_the_next_frame_does_not_touch() -> None:
    first, second = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    content = b"".join(rows_that_ran(1, {"y": first})) + b"".join(rows_that_ran(2, {"y": second}))
    (_, one), (_, two) = received(content)
    np.testing.assert_array_equal(one["y"], first)
    assert not np.shares_memory(one["y"], two["y"])
    assert one["y"].base is not None


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("lstm/1", "rows", 3, 4, 0.5),
        InputsRejected("lstm/1", "a cause"),
        JobNotFound("job_1"),
        SourceInvalid("rows.parquet", ["no column a", "no column b"]),
    ],
    ids=lambda error: error.reason,
)
def test_an_error_is_the_same_on_the_other_side(error: InferenceError) -> None:
    ((frame, _),) = received(b"".join(encoded(refused(7, error))))
    assert isinstance(frame, Refused)
    again = frame.error
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.reason, again.details, again.retry_after_s) == (error.reason, error.details, error.retry_after_s)
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (PREFIX.pack(1 << 31, 0), "a header of"),
        (PREFIX.pack(10, 1 << 40), "a body of"),
        (PREFIX.pack(0, 0), "without a header"),
        (PREFIX.pack(5, 0) + bytes(64), "cannot be read"),
        (PREFIX.pack(5, 0) + b"\xc1" * 64, "cannot be read"),
    ],
)
def test_what_is_no_frame_is_noticed(content: bytes, fault: str) -> None:
    with pytest.raises(FrameInvalid, match=fault):
        received(content)


def test_tensors_that_do_not_fill_the_body_are_noticed() -> None:
    with pytest.raises(FrameInvalid, match="tensor 'y' cannot be read"):
        received(b"".join(encoded(RanRows(1, (TensorHead("y", "FP32", (3,)),)))))
    header = b"".join(encoded(RanRows(1, ())))[PREFIX.size :]
    with pytest.raises(FrameInvalid, match="take 0 bytes of 64"):
        received(PREFIX.pack(len(header.rstrip(bytes(1))), 64) + header + bytes(64))


def test_a_frame_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_frames, "HEADER_BYTES_MAX", 1000)
    with pytest.raises(FrameInvalid, match="accepted at most"):
        encoded(Reply(1, bytes(2000)))
