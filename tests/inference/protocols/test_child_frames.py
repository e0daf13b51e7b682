"""Frames to and from a child process: everything arrives as it was, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.device import Device
from inference.model import Signature
from inference.protocols.child_frames import (
    ALIGNMENT_BYTES,
    PREFIX,
    FrameInvalid,
    Load,
    Loaded,
    LoadRefused,
    Message,
    Ran,
    Run,
    RunRaised,
    TensorHead,
    frame,
    read_header,
    read_prefix,
    read_tensors,
    tensor_heads,
)
from inference.settings import RuntimeSettings
from inference.tensor import DTYPES, Array, Tensors, TensorSpec


def sent(message: Message, body: list[memoryview] | None = None) -> tuple[Message, Array]:
    """What arrives of a message: its header, read, and its body."""
    content = b"".join(frame(message, body))
    header_bytes, body_bytes = read_prefix(content[: PREFIX.size])
    rest = content[PREFIX.size :]
    assert len(rest) == header_bytes + body_bytes
    return read_header(rest[:header_bytes]), np.frombuffer(rest[header_bytes:], np.uint8)


def round_trip(tensors: Tensors) -> Tensors:
    heads, pieces = tensor_heads(tensors)
    message, body = sent(Run(heads), pieces)
    assert isinstance(message, Run)
    return read_tensors(message.tensors, body)


SPEC = TensorSpec("x", "FP32", ("batch", 3, None))


@pytest.mark.parametrize(
    "message",
    [
        Load("/models/a/1/model.onnx", RuntimeSettings(providers=("cpu",), intra_op_threads=3)),
        Loaded(
            Signature((SPEC,), (TensorSpec("y", "BYTES", (), ranked=False),)), Device("cpu", ("cuda: none",), "o", 2)
        ),
        LoadRefused(("model.onnx: broken", "and more")),
        RunRaised("index out of bounds"),
        Ran((TensorHead("y", "FP16", (2, 0)),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_arrives_as_it_was(message: Message) -> None:
    assert sent(message)[0] == message


def tensors_of(datatype: str, shape: tuple[int, ...], seed: int) -> Array:
    random = np.random.default_rng(seed)
    if datatype == "BYTES":
        texts = ["", "Glas", "Blase ü", "x" * 100]
        return np.array(random.choice(texts, size=shape), object).reshape(shape)
    return random.integers(0, 100, shape).astype(DTYPES[datatype])


@given(
    st.lists(
        st.tuples(st.sampled_from(list(DTYPES)), st.lists(st.integers(0, 9), max_size=3), st.integers(0, 99)),
        max_size=6,
    )
)
def test_tensors_of_every_type_and_shape_arrive_as_they_were(kinds: list[tuple[str, list[int], int]]) -> None:
    given_tensors = {
        f"t{n}": tensors_of(datatype, tuple(shape), seed) for n, (datatype, shape, seed) in enumerate(kinds)
    }
    got = round_trip(given_tensors)
    assert list(got) == list(given_tensors)
    for name, array in given_tensors.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tolist() == array.tolist()


def test_what_does_not_lie_in_one_piece_arrives_as_well() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    for array in (wide[:, 1:], wide.T, np.broadcast_to(np.float32(7), (2, 3))):
        assert round_trip({"x": array})["x"].tolist() == array.tolist()


def test_a_contiguous_tensor_is_sent_from_where_it_lies() -> None:
    array = np.zeros(64, np.float64)
    _, (piece,) = tensor_heads({"x": array})
    array[0] = 1.0
    assert np.frombuffer(piece, np.float64)[0] == 1.0


def test_every_tensor_begins_at_a_multiple_of_a_cache_line() -> None:
    heads, pieces = tensor_heads({"a": np.zeros(3, np.uint8), "b": np.zeros(2, np.float64)})
    body = np.frombuffer(b"".join(pieces), np.uint8)
    tensors = read_tensors(heads, body)
    addresses = [array.__array_interface__["data"][0] for array in tensors.values()]
    assert (addresses[1] - addresses[0]) % ALIGNMENT_BYTES == 0


@pytest.mark.parametrize(
    ("heads", "body_bytes"),
    [
        ((), 64),
        ((TensorHead("x", "FP32", (16,)),), 0),
        ((TensorHead("x", "FP32", (16,)),), 128),
        ((TensorHead("x", "FP32", (1 << 40,)),), 64),
        ((TensorHead("x", "FP128", (4,)),), 64),
        ((TensorHead("x", "BYTES", (3,), ["a"]),), 0),
        ((TensorHead("x", "BYTES", (1,)),), 64),
    ],
)
def test_heads_that_do_not_fit_their_body_are_noticed(heads: tuple[TensorHead, ...], body_bytes: int) -> None:
    with pytest.raises(FrameInvalid):
        read_tensors(heads, np.zeros(body_bytes, np.uint8))


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x80", b"\x81\xa4type\xa5Other"])
def test_a_header_that_is_none_is_noticed(header: bytes) -> None:
    with pytest.raises(FrameInvalid, match="the header cannot be read"):
        read_header(header)


def test_a_negative_size_is_noticed() -> None:
    (content,) = frame(Ran((TensorHead("x", "FP32", (-1,)),)))
    with pytest.raises(FrameInvalid):
        read_header(bytes(content[PREFIX.size :]))


@given(st.binary(min_size=PREFIX.size, max_size=PREFIX.size))
def test_any_prefix_is_a_bounded_one_or_is_noticed(prefix: bytes) -> None:
    try:
        header_bytes, body_bytes = read_prefix(prefix)
    except FrameInvalid:
        assert prefix != bytes(PREFIX.size)
    else:
        assert header_bytes < 1 << 29
        assert body_bytes <= 1 << 36


@given(st.binary(max_size=200))
def test_any_header_is_a_message_or_is_noticed(header: bytes) -> None:
    try:
        message = read_header(header)
    except FrameInvalid:
        return
    assert isinstance(message, (Load, Loaded, LoadRefused, Run, Ran, RunRaised))
