"""Every datatype comes through JSON and binary as it was; nothing is rounded or cut to fit."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.errors import InferenceError, InvalidTensor
from inference.fault import Fault
from inference.protocols.wire_tensor import WireTensor, to_binary, to_json
from inference.tensor import DTYPES, Array

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)


def arrays(datatype: str, *, finite: bool) -> st.SearchStrategy[Array]:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return hnp.arrays(dtype, SHAPES, elements=TEXT, fill=st.nothing())
    if dtype.kind == "f":
        elements = st.floats(width=8 * dtype.itemsize, allow_nan=not finite, allow_infinity=not finite)
        return hnp.arrays(dtype, SHAPES, elements=elements)
    return hnp.arrays(dtype, SHAPES)


@st.composite
def any_arrays(draw: st.DrawFn, *, finite: bool, without: frozenset[str] = frozenset()) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(sorted(DTYPES.keys() - without)))
    return datatype, np.asarray(draw(arrays(datatype, finite=finite)), DTYPES[datatype])


def wire(datatype: str, *shape: int) -> WireTensor:
    return WireTensor("m/1", "x", datatype, shape)


def from_json(tensor: WireTensor, value: Any) -> Array:
    return tensor.from_json(msgspec.Raw(value if isinstance(value, bytes) else json.dumps(value).encode()))


def refused(tensor: WireTensor, value: Any) -> Fault:
    with pytest.raises(InvalidTensor) as caught:
        from_json(tensor, value)
    (fault,) = caught.value.details
    return fault


def assert_same(one: Array, other: Array) -> None:
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert to_binary(one) == to_binary(other)  # every bit, so that -0.0 and NaN count


@given(any_arrays(finite=True, without=frozenset({"FP16"})))
def test_json_brings_back_every_bit(case: tuple[str, Array]) -> None:
    datatype, array = case
    tensor = wire(datatype, *array.shape)

    assert_same(from_json(tensor, msgspec.json.encode(to_json(array))), array)
    assert_same(
        from_json(
            tensor, msgspec.json.encode(array.tolist()) if array.ndim else b"[%s]" % msgspec.json.encode(array.item())
        ),
        array,
    )


@given(any_arrays(finite=False))
def test_binary_brings_back_every_bit(case: tuple[str, Array]) -> None:
    datatype, array = case

    assert_same(wire(datatype, *array.shape).from_binary(memoryview(to_binary(array))), array)


@given(any_arrays(finite=False), st.data())
def test_a_binary_tensor_of_another_length_is_refused(case: tuple[str, Array], data: st.DataObject) -> None:
    datatype, array = case
    whole = to_binary(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    tensor = wire(datatype, *array.shape)

    with pytest.raises(InvalidTensor):
        tensor.from_binary(memoryview(whole[:cut]))
    with pytest.raises(InvalidTensor):
        tensor.from_binary(memoryview(whole + b"\0"))


@given(
    st.sampled_from(sorted(DTYPES)),
    SHAPES,
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_elements_get_past_as_another_error(datatype: str, shape: tuple[int, ...], elements: bytes) -> None:
    tensor = wire(datatype, *shape)
    for read in (lambda: tensor.from_json(msgspec.Raw(elements)), lambda: tensor.from_binary(memoryview(elements))):
        with contextlib.suppress(InferenceError):
            array = read()
            assert (array.dtype, array.shape) == (DTYPES[datatype], shape)


def test_an_array_from_binary_is_aligned_and_the_callers_own() -> None:
    body = b"?" + np.arange(3, dtype=np.float64).tobytes()  # the blob begins at an odd address

    array = wire("FP64", 3).from_binary(memoryview(body)[1:])

    assert array.flags.aligned
    assert array.flags.writeable
    assert array.tolist() == [0, 1, 2]


def test_binary_is_little_endian_row_major() -> None:
    assert to_binary(np.array([[1, 2], [3, 4]], np.uint16)) == bytes([1, 0, 2, 0, 3, 0, 4, 0])
    assert to_binary(np.array([[1, 3], [2, 4]], np.uint16).T) == bytes([1, 0, 2, 0, 3, 0, 4, 0])
    assert to_binary(np.array([[1, 2]], ">u2")) == bytes([1, 0, 2, 0])
    assert to_binary(np.array(["a", "é"], object)) == b"\1\0\0\0a\2\0\0\0\xc3\xa9"
    assert to_binary(np.array([True, False])) == b"\1\0"


@pytest.mark.parametrize(
    ("datatype", "value", "low", "high"),
    [
        ("UINT8", 256, 0, 255),
        ("UINT8", -1, 0, 255),
        ("INT8", 128, -128, 127),
        ("UINT16", 65536, 0, 65535),
        ("INT32", -(2**31) - 1, -(2**31), 2**31 - 1),
        ("INT64", 2**63, -(2**63), 2**63 - 1),
        ("UINT64", 2**64, 0, 2**64 - 1),
        ("INT64", 10**40, -(2**63), 2**63 - 1),
    ],
)
def test_an_integer_that_overflows_is_named(datatype: str, value: int, low: int, high: int) -> None:
    accepted = f"{datatype} values, {low} to {high}"

    assert refused(wire(datatype, 2), [1, value]) == Fault("x.data[1]", str(value), accepted)
    assert refused(wire(datatype, 2, 1), [[1], [value]]) == Fault("x.data[1][0]", str(value), accepted)


def test_a_float_that_overflows_is_named() -> None:
    fault = refused(wire("FP32", 2), [1, -1e39])
    assert (fault.field, fault.given) == ("x.data[1]", "-1e+39")
    assert refused(wire("FP32", 1, 2), [[1, 1e39]]).field == "x.data[0][1]"
    assert refused(wire("FP64", 1), b"[1e400]").field == "x.data[0]"


@pytest.mark.parametrize(
    ("datatype", "elements", "fault"),
    [
        ("FP32", [1, True], Fault("x.data[1]", "bool", "numbers")),
        ("FP32", [1, "2"], Fault("x.data[1]", "str", "numbers")),
        ("FP32", [1, None], Fault("x.data[1]", "null", "numbers")),
        ("INT64", [1, 2.5], Fault("x.data[1]", "float", "whole numbers")),
        ("INT64", [False, 2], Fault("x.data[0]", "bool", "whole numbers")),
        ("BOOL", [1, 0], Fault("x.data[0]", "int", "true or false")),
        ("BYTES", [1, "a"], Fault("x.data[0]", "int", "strings")),
        ("BYTES", "ab", Fault("x.data", "no list", "a flat list, or lists nested 1 deep, as shape [2] says")),
        ("FP32", [1], Fault("x.data", "1 elements", "2 elements for shape [2], flat or nested")),
        (
            "FP32",
            [[1, 2]],
            Fault("x.data", "lists nested 2 deep", "a flat list, or lists nested 1 deep, as shape [2] says"),
        ),
    ],
)
def test_elements_of_another_kind_are_named(datatype: str, elements: Any, fault: Fault) -> None:
    assert refused(wire(datatype, 2), elements) == fault


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BYTES", "BOOL"])
def test_ragged_lists_are_refused(datatype: str) -> None:
    one = {"FP32": 1.5, "INT64": 1, "BYTES": "a", "BOOL": True}[datatype]

    assert refused(wire(datatype, 2, 2), [[one, one], [one]]).given == "lists of unequal lengths"
    assert refused(wire(datatype, 2, 2), [[one, one]]).given == "lists nested as shape [1, 2]"
    assert refused(wire(datatype, 1, 4), [[one, one], [one, one]]).given == "lists nested as shape [2, 2]"


def test_a_scalar_is_one_element_in_a_list_or_alone() -> None:
    assert from_json(wire("FP32"), [2.5]).shape == ()
    assert from_json(wire("FP32"), 2.5).item() == 2.5
    assert refused(wire("FP32"), []).given == "0 elements"


def test_fp16_has_no_json_form() -> None:
    assert "binary_data_size" in refused(wire("FP16", 1), [1]).accepted


def test_strings_are_utf_8() -> None:
    blob = struct.pack("<I", 2) + b"\xff\xfe"
    with pytest.raises(InvalidTensor, match=r"x\.bytes\[0\].*accepted text in UTF-8"):
        wire("BYTES", 1).from_binary(memoryview(blob))


def test_a_string_longer_than_the_blob_is_refused_before_memory_is_taken() -> None:
    blob = struct.pack("<I", 2**32 - 1) + b"ab"
    with pytest.raises(InvalidTensor, match=r"x\.bytes\[0\]: given 6 bytes left"):
        wire("BYTES", 1).from_binary(memoryview(blob))


def test_a_bool_is_the_byte_0_or_1() -> None:
    with pytest.raises(InvalidTensor, match=r"x\.bytes\[1\]: given 2, accepted 0 for false, 1 for true"):
        wire("BOOL", 3).from_binary(memoryview(b"\1\2\0"))
