"""Outputs whose meaning nobody has declared, as columns: a number a row, or nested lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from inference.errors import InvalidValues
from inference.fault import Fault
from inference.model import Signature
from inference.pipeline.bulk import PreparedRows
from inference.pipeline.bulk_output import OutputRows, output_schema
from inference.pipeline.bulk_tensors import row_spec
from inference.shard import RowFault, Tally
from inference.tensor import Array, Tensors, TensorSpec

_KINDS: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "UINT8": pa.uint8(),
    "UINT16": pa.uint16(),
    "UINT32": pa.uint32(),
    "UINT64": pa.uint64(),
    "INT8": pa.int8(),
    "INT16": pa.int16(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "FP16": pa.float32(),  # few readers of CSV, JSON or Parquet know halves
    "FP32": pa.float32(),
    "FP64": pa.float64(),
    "BYTES": pa.string(),
}


class BulkPlain:
    """One column an output, named as the output is; see BulkOutput."""

    def __init__(self, signature: Signature) -> None:
        self._outputs = [row_spec(spec, signature.batch_axis()) for spec in signature.outputs]

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See BulkOutput. Raises InvalidValues, also for an output whose number of axes is open."""
        unranked = [spec.name for spec in self._outputs if not spec.ranked]
        if unranked:
            accepted = "an output with a declared number of axes, or [output] in model.toml"
            raise InvalidValues([Fault(f"output {name}", "any number of axes", accepted) for name in unranked])
        return output_schema(kept, [pa.field(spec.name, _kind(spec)) for spec in self._outputs])

    def rows(
        self, kept: pa.RecordBatch, first_row: int, prepared: PreparedRows, outputs: Tensors, failed: Sequence[RowFault]
    ) -> tuple[pa.RecordBatch, Tally]:
        """See BulkOutput."""
        rows = OutputRows(kept.num_rows, prepared, failed)
        columns = [rows.spread_column(_column(spec, outputs[spec.name][rows.answered])) for spec in self._outputs]
        return rows.batch(self.schema(kept.schema), kept, first_row, columns), rows.tally()


def _kind(spec: TensorSpec) -> pa.DataType:
    kind = _KINDS[spec.datatype]
    for _ in spec.shape:
        kind = pa.list_(kind)
    return kind


def _column(spec: TensorSpec, values: Array) -> pa.Array:
    """[n, ...] as a column of n rows; rows of different shapes come as an object array of n arrays."""
    if values.ndim == 1 and values.dtype == np.object_ and (spec.shape or spec.datatype != "BYTES"):
        return pa.array([one.tolist() for one in values], _kind(spec))
    leaves = values.reshape(-1)
    column = pa.array(leaves.astype(np.float32) if spec.datatype == "FP16" else leaves, _KINDS[spec.datatype])
    for axis in range(values.ndim - 1, 0, -1):
        size = values.shape[axis]
        count = int(np.prod(values.shape[:axis]))
        column = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * size), column)
    return column
