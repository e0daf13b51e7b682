"""Outputs without a declared meaning become columns of numbers and nested lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from inference.errors import InvalidValues
from inference.model import Signature
from inference.pipeline.bulk_tensor_output import BulkPlain
from inference.shard import RowFault
from inference.tensor import DTYPES, TensorSpec
from tests.inference.pipeline.prepared_rows import MadeUp, all_good

KEPT = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c"])], ["row_id"])


def output_of(
    shape: tuple[Any, ...], datatype: str = "FP32", *, ranked: bool = True, batched: bool = True
) -> BulkPlain:
    inputs = (TensorSpec("x", "FP32", ("b", 1) if batched else (1,)),)
    return BulkPlain(Signature(inputs, (TensorSpec("y", datatype, shape, ranked),)))


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_becomes_a_column(datatype: str) -> None:
    values = np.array(["1", "0", "1"], object) if datatype == "BYTES" else np.array([1, 0, 1], DTYPES[datatype])
    batch, tally = output_of(("b",), datatype).rows(KEPT, 0, all_good(3), {"y": values}, ())
    assert batch.column("y").to_pylist() == values.tolist()
    assert tally.rows_in == 3
    assert (tally.labels, tally.confidence) == ({}, ())


def test_axes_become_nested_lists() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    batch, _ = output_of(("b", 2, "k")).rows(KEPT, 0, all_good(3), {"y": values}, ())
    assert batch.schema.field("y").type == pa.list_(pa.list_(pa.float32()))
    assert batch.column("y").to_pylist() == values.tolist()


def test_rows_of_different_shapes_stay_apart() -> None:
    values = np.empty(3, object)
    for place, size in enumerate((1, 3, 2)):
        values[place] = np.arange(size, dtype=np.float32)
    batch, _ = output_of(("b", None)).rows(KEPT, 0, all_good(3), {"y": values}, ())
    assert batch.column("y").to_pylist() == [[0], [0, 1, 2], [0, 1]]


def test_a_failed_row_is_null() -> None:
    prepared = MadeUp(np.array([0, 1]), [RowFault(2, "invalid_values", "")])
    outputs = {"y": np.array([[1, 2], [np.nan, 0]], np.float32)}
    batch, _ = output_of(("b", 2)).rows(KEPT, 5, prepared, outputs, [RowFault(1, "non_finite_output", "")])
    assert batch.to_pylist() == [
        {"row_id": "a", "row": 5, "y": [1, 2], "error": None},
        {"row_id": "b", "row": 6, "y": None, "error": "non_finite_output"},
        {"row_id": "c", "row": 7, "y": None, "error": "invalid_values"},
    ]


def test_a_model_without_a_batch_axis_gives_whole_tensors() -> None:
    batch, _ = output_of((2,), batched=False).rows(KEPT, 0, all_good(3), {"y": np.ones((3, 2), np.float32)}, ())
    assert batch.column("y").to_pylist() == [[1, 1]] * 3


def test_an_output_of_any_rank_has_no_column() -> None:
    with pytest.raises(InvalidValues, match=r"output y: given any number of axes"):
        output_of((), ranked=False).schema(KEPT.schema)
