"""Columns of a table as plain tensors: what the live path takes and refuses, for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.fault import Fault
from inference.job import Dataset
from inference.model import Signature
from inference.pipeline.bulk import RowsDiffer
from inference.pipeline.bulk_tensors import BulkTensors
from inference.pipeline.plain_tensors import tensor_of
from inference.shard import RowFault
from inference.tensor import DTYPES, TensorSpec

DATASET = Dataset(("t",), "jsonl")


def signature(shape: tuple[Any, ...], datatype: str = "FP32", output: tuple[Any, ...] = ("b",)) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", "FP32", output),))


def prepared_of(values: list[Any], kind: pa.DataType, shape: tuple[Any, ...], datatype: str = "FP32") -> Any:
    bulk = BulkTensors(signature(shape, datatype), DATASET)
    assert bulk.problems(pa.schema([("x", kind)])) == []
    return bulk.prepare(pa.RecordBatch.from_arrays([pa.array(values, kind)], ["x"]), ())


NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.just(float("nan")), st.just(1e300), st.none())
MATRICES = st.lists(st.lists(NUMBERS, min_size=1, max_size=3) | st.none(), min_size=1, max_size=3) | st.none()
GOOD_MATRIX = st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=2, max_size=2)


@settings(max_examples=300, deadline=None)
@given(st.lists(GOOD_MATRIX | MATRICES, max_size=12), st.sampled_from([(2, 3), ("k", 3), (2, "w"), ("k", "w")]))
def test_every_row_is_taken_or_refused_as_the_live_path_does(rows: list[Any], shape: tuple[Any, ...]) -> None:
    kind = pa.list_(pa.list_(pa.float64()))
    prepared = prepared_of(rows, kind, ("b", *shape))
    spec = TensorSpec("x", "FP32", shape)
    faults = {fault.row for fault in prepared.faults}
    assert sorted([*faults, *prepared.good.tolist()]) == list(range(len(rows)))
    for row, values in enumerate(rows):
        expected = tensor_of(spec, values)
        refused = isinstance(expected, Fault) or bool(spec.faults(expected, {}))
        assert refused == (row in faults), values
    for place, row in enumerate(prepared.good.tolist()):
        tensor = prepared.tensors(place, place + 1)["x"]
        assert tensor.dtype == np.float32
        assert np.array_equal(tensor[0], np.array(rows[row], np.float32))


@pytest.mark.parametrize(
    ("datatype", "kind", "good", "bad"),
    [
        ("FP32", pa.int64(), [1, -2], [None]),
        ("FP16", pa.float64(), [1.5], [1e6, None]),
        ("INT8", pa.int64(), [-128, 127], [128, -129, None]),
        ("UINT8", pa.int32(), [0, 255], [-1, 256]),
        ("UINT64", pa.uint64(), [0, 2**64 - 1], []),
        ("INT64", pa.uint64(), [0, 2**63 - 1], [2**63]),
        ("BOOL", pa.bool_(), [True, False], [None]),
        ("BYTES", pa.string(), ["", "glass"], [None]),
        ("BYTES", pa.dictionary(pa.int8(), pa.string()), ["a", "b"], [None]),
    ],
)
def test_each_datatype_takes_what_it_can_hold(
    datatype: str, kind: pa.DataType, good: list[Any], bad: list[Any]
) -> None:
    prepared = prepared_of([*bad, *good], kind, ("b",), datatype)
    assert [fault.row for fault in prepared.faults] == list(range(len(bad)))
    tensor = prepared.tensors(0, len(good))["x"]
    assert tensor.dtype == DTYPES[datatype]
    assert tensor.tolist() == good


def test_rows_of_another_size_run_apart_from_their_neighbours() -> None:
    prepared = prepared_of([[1.0, 2.0], [3.0], [4.0, 5.0], [6.0, 7.0]], pa.list_(pa.float32()), ("b", None))
    assert prepared.good.tolist() == [0, 1, 2, 3]
    with pytest.raises(RowsDiffer):
        prepared.tensors(0, 2)
    assert prepared.tensors(1, 2)["x"].tolist() == [[3.0]]
    assert prepared.tensors(2, 4)["x"].tolist() == [[4, 5], [6, 7]]


def test_fixed_and_large_lists_are_lists() -> None:
    for kind in (pa.list_(pa.float32(), 2), pa.large_list(pa.float64())):
        assert prepared_of([[1.0, 2.0]], kind, ("b", 2)).tensors(0, 1)["x"].tolist() == [[1, 2]]


def test_a_row_of_a_model_without_a_batch_axis_is_the_whole_tensor() -> None:
    bulk = BulkTensors(signature((2, 2), output=(2,)), DATASET)
    column = pa.array([[[1.0, 2.0], [3.0, 4.0]]] * 2)
    prepared = bulk.prepare(pa.RecordBatch.from_arrays([column], ["x"]), ())
    assert prepared.tensors(1, 2)["x"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(RowsDiffer):
        prepared.tensors(0, 2)


def test_a_fault_of_the_source_stays_and_a_bad_row_is_told_as_live() -> None:
    bulk = BulkTensors(signature(("b", 2)), DATASET)
    batch = pa.RecordBatch.from_arrays([pa.array([None, [1.0], [1.0, 2.0]])], ["x"])
    prepared = bulk.prepare(batch, [RowFault(0, "malformed_row", "line 1")])
    assert [(fault.row, fault.reason) for fault in prepared.faults] == [(0, "malformed_row"), (1, "invalid_values")]
    assert "x.shape[0]: given 1, accepted 2" in prepared.faults[1].sentence


def test_what_is_wrong_with_the_columns_is_told_at_once() -> None:
    two = Signature(
        (
            TensorSpec("x", "FP32", ("b", 2)),
            TensorSpec("n", "INT64", ("b",)),
            TensorSpec("z", "FP32", ("b",), ranked=False),
        ),
        (TensorSpec("y", "FP32", ("b",)),),
    )
    bulk = BulkTensors(two, Dataset(("t",), "parquet", {"n": "count", "m": "q"}))
    problems = bulk.problems(pa.schema([("x", pa.float32()), ("coun", pa.int8()), ("z", pa.float32())]))
    assert [problem.split(":")[0] for problem in problems] == [
        "--column m=q",
        "column 'x'",
        "column 'count' is missing",
        "input 'z'",
    ]
    assert "accepted lists of FP32" in problems[1]
