"""Tensor specs say what fits, and name what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.tensor import DATATYPES, DTYPES, ONNX_TYPES, TensorSpec, byte_count, element_count

ROWS = TensorSpec("rows", "FP32", ("batch", 32, 3))


def test_every_datatype_of_the_protocol_has_one_numpy_type_and_one_onnx_type() -> None:
    protocol = {"BOOL", "FP16", "FP32", "FP64", "BYTES"} | {f"{u}INT{b}" for u in ("", "U") for b in (8, 16, 32, 64)}
    assert set(DTYPES) == protocol
    assert {DATATYPES[dtype]: dtype for dtype in DTYPES.values()} == DTYPES
    assert sorted(ONNX_TYPES.values()) == sorted(DTYPES)


def test_what_fits_has_no_fault() -> None:
    assert ROWS.faults(np.zeros((4, 32, 3), np.float32), {}) == []


@pytest.mark.parametrize(
    ("array", "field", "given_text"),
    [
        (np.zeros((1, 32, 3), np.float64), "rows.datatype", "FP64"),
        (np.zeros((1, 32, 3), np.complex64), "rows.datatype", "complex64"),
        (np.zeros((32, 3), np.float32), "rows.shape", "[32, 3]"),
        (np.zeros((1, 31, 3), np.float32), "rows.shape[1]", "31"),
        (np.zeros((0, 32, 3), np.float32), "rows.shape[0]", "0"),
    ],
)
def test_each_misfit_is_named(array: np.ndarray, field: str, given_text: str) -> None:
    (fault,) = ROWS.faults(array, {})
    assert (fault.field, fault.given) == (field, given_text)


def test_two_wrong_axes_are_two_faults() -> None:
    fields = [fault.field for fault in ROWS.faults(np.zeros((1, 2, 2), np.float32), {})]
    assert fields == ["rows.shape[1]", "rows.shape[2]"]


def test_a_named_size_must_agree_over_all_inputs() -> None:
    sizes: dict[str, int] = {}
    left, right = TensorSpec("left", "INT64", ("n",)), TensorSpec("right", "INT64", ("n",))
    assert left.faults(np.zeros(3, np.int64), sizes) == []
    (fault,) = right.faults(np.zeros(4, np.int64), sizes)
    assert fault.field == "right.shape[0]"
    assert fault.accepted == "3 ('n' as in the other inputs)"


def test_an_unknown_size_takes_any() -> None:
    assert TensorSpec("x", "UINT8", (None,)).faults(np.zeros(7, np.uint8), {}) == []


def test_a_scalar_has_the_empty_shape() -> None:
    assert TensorSpec("x", "FP32", ()).faults(np.array(1, np.float32), {}) == []


def test_the_protocol_writes_minus_one_where_the_size_is_free() -> None:
    assert TensorSpec("x", "FP32", ("batch", None, 3)).protocol_shape == [-1, -1, 3]


@given(st.lists(st.integers(0, 2**40), max_size=6))
def test_element_count_is_exact_for_any_size(shape: list[int]) -> None:
    assert element_count(shape) == math.prod(shape)


@given(st.lists(st.text(max_size=20), max_size=20))
def test_strings_count_their_characters(texts: list[str]) -> None:
    array = np.array([*texts, None], np.object_)[:-1]
    assert byte_count({"x": array}) == array.nbytes + sum(map(len, texts))


def test_bytes_of_all_tensors_are_added() -> None:
    assert byte_count({"a": np.zeros(4, np.float32), "b": np.zeros(3, np.uint8)}) == 19
