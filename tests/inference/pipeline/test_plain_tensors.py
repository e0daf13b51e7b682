"""Nested lists become tensors of the declared type, exactly, or are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidValues, UnknownField, UnsupportedMedia
from inference.fault import Fault
from inference.model import Signature
from inference.pipeline.plain_tensors import PlainTensors, tensor_of
from inference.pipeline.sample import Sample
from inference.tensor import DTYPES, TensorSpec

X = TensorSpec("x", "FP32", ("batch", 2))
N = TensorSpec("n", "INT8", ())
INPUTS = PlainTensors(Signature((X, N), ()))


def array_of(datatype: str, values: object, shape: tuple[Any, ...] = (None,)) -> np.ndarray[Any, Any]:
    tensor = tensor_of(TensorSpec("t", datatype, shape), values)
    assert isinstance(tensor, np.ndarray), tensor
    return tensor


def fault_of(datatype: str, values: object, shape: tuple[Any, ...] = (None,)) -> Fault:
    fault = tensor_of(TensorSpec("t", datatype, shape), values)
    assert isinstance(fault, Fault), fault
    assert fault.field == "data.t"
    return fault


def test_named_lists_become_tensors() -> None:
    tensors = INPUTS.prepare(Sample({"x": [[1, 2.5], [3, 4]], "n": -128})).tensors
    assert tensors["x"].dtype == np.float32
    assert tensors["x"].tolist() == [[1, 2.5], [3, 4]]
    assert tensors["n"].dtype == np.int8
    assert tensors["n"].shape == ()


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidValues) as caught:
        INPUTS.prepare(Sample({"x": [[1, "2"]]}))
    assert [(fault.field, fault.given, fault.accepted) for fault in caught.value.details] == [
        ("data.x", "'2'", "FP32 [-1, 2]"),
        ("data.n", "nothing", "one INT8 value"),
    ]


def test_unknown_inputs_lines_and_images_are_refused() -> None:
    good = {"x": [[1, 2]], "n": 1}
    with pytest.raises(UnknownField):
        INPUTS.prepare(Sample({**good, "y": 1}))
    with pytest.raises(UnknownField):
        INPUTS.prepare(Sample(good, stream_id="L1"))
    with pytest.raises(UnsupportedMedia):
        INPUTS.prepare(Sample({}, b"\xff\xd8\xff"))


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [65504.0, -1]),
        ("FP32", [3.4028234663852886e38, 0]),
        ("FP64", [1.7976931348623157e308, 2**60]),
        ("BYTES", ["", "Glas ÄÖ"]),
    ],
)
def test_the_ends_of_every_type_are_kept(datatype: str, values: list[object]) -> None:
    array = array_of(datatype, values)
    assert array.dtype == DTYPES[datatype]
    assert array.tolist() == values


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", 1),
        ("UINT8", 256),
        ("UINT8", -1),
        ("UINT8", True),
        ("INT64", 2**63),
        ("INT32", 1.0),
        ("INT8", None),
        ("FP16", 65520),
        ("FP32", 3.5e38),
        ("FP32", True),
        ("FP32", "1"),
        ("FP64", 10**400),
        ("FP64", float("nan")),
        ("BYTES", 1),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_quoted(datatype: str, value: object) -> None:
    good = {"BOOL": True, "BYTES": ""}.get(datatype, 0)
    assert fault_of(datatype, [good, value]).given == repr(value)[:117] + ("..." if len(repr(value)) > 120 else "")


@pytest.mark.parametrize(
    ("values", "given_text"),
    [
        (5, "values at depth 0"),
        ([1, 2], "values at depth 1"),
        ([[1, 2], 3], "values beside lists at depth 1"),
        ([[1, 2], [3]], "lists of 1 to 2 values at depth 1"),
        ([[[1], [2]]], "[1]"),
        ({"a": 1}, "values at depth 0"),
    ],
)
def test_lists_have_to_be_nested_as_the_axes_are(values: object, given_text: str) -> None:
    assert fault_of("FP32", values, (None, 2)).given == given_text


def test_a_model_that_leaves_the_number_of_axes_open_takes_any() -> None:
    spec = TensorSpec("t", "FP32", (), ranked=False)
    for values in (1.0, [1.0, 2.0], [[1.0], [2.0]], []):
        tensor = tensor_of(spec, values)
        assert isinstance(tensor, np.ndarray)
        assert tensor.tolist() == values
    deep: Any = 1.0
    for _ in range(100):
        deep = [deep]
    for uneven in ([[1.0], 2.0], [1.0, [2.0]], deep):
        assert isinstance(tensor_of(spec, uneven), Fault)


def test_an_empty_list_has_its_shape() -> None:
    assert array_of("FP32", [], (None, None)).shape == (0, 0)
    assert array_of("FP32", [[], []], (None, None)).shape == (2, 0)


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), max_size=5)
)
def test_floats_come_back_as_they_were(values: list[list[float]]) -> None:
    array = array_of("FP32", values, (None, 3)) if values else array_of("FP32", values, (None, 0))
    assert array.tolist() == values


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=2), children, max_size=2),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(DTYPES)), st.integers(0, 3))
def test_whatever_comes_is_an_array_of_that_type_and_rank_or_a_fault(values: object, datatype: str, rank: int) -> None:
    tensor = tensor_of(TensorSpec("t", datatype, (None,) * rank), values)
    if isinstance(tensor, Fault):
        assert tensor.given
    else:
        assert (tensor.dtype, tensor.ndim) == (DTYPES[datatype], rank)


def test_arrays_of_this_process_stay_as_they_are() -> None:
    x = np.zeros((2, 2), np.float64)
    assert INPUTS.prepare_one({"x": x, "n": 1}).tensors["x"] is x
    assert INPUTS.prepare_many({"x": x, "n": 1})["x"] is x
    with pytest.raises(InvalidValues):
        INPUTS.prepare_one(x)
