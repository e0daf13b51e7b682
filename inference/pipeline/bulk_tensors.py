"""From columns of numbers, texts and nested lists to the tensors of a model that only declares its signature.

A row is one entry of the batch axis: `x` of shape [batch, 3] takes lists of 3 values. Of a model without a batch axis a
row is the whole of each tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from inference.errors import InvalidValues
from inference.fault import Fault
from inference.job import Dataset
from inference.model import Signature
from inference.pipeline import bulk_columns
from inference.pipeline.bulk import RowsDiffer
from inference.pipeline.plain_tensors import tensor_of
from inference.shard import RowFault
from inference.tensor import DTYPES, Array, Dim, Tensors, TensorSpec

_COMPUTE: Any = pyarrow.compute  # its functions are made when it is imported, where no checker of types sees them


@dataclass(slots=True, frozen=True, eq=False)
class TensorRows:
    """Tensors of a block: `tensors_of_good` [len(good), ...] by input. See PreparedRows.

    `odd`: by the place in `good`, tensors of rows that have another shape than the rest. `batched`: False if a row is
    the whole of each tensor.
    """

    good: Array
    faults: Sequence[RowFault]
    tensors_of_good: Tensors
    odd: dict[int, Tensors]
    batched: bool
    real_rows: None = None
    input_quality: None = None

    def tensors(self, start: int, stop: int) -> Tensors:
        """See PreparedRows."""
        rows = {name: array[start:stop] for name, array in self.tensors_of_good.items()}
        if self.odd:
            own = [self.odd.get(place) for place in range(start, stop)]
            if any(tensors is not None for tensors in own):
                each = [
                    {name: array[place] for name, array in rows.items()} if tensors is None else tensors
                    for place, tensors in enumerate(own)
                ]
                if any(len({tensors[name].shape for tensors in each}) > 1 for name in rows):
                    raise RowsDiffer
                rows = {name: np.stack([tensors[name] for tensors in each]) for name in rows}
        if self.batched:
            return rows
        if stop - start != 1:
            raise RowsDiffer
        return {name: array[0] for name, array in rows.items()}


class BulkTensors:
    """A column for each input of the model; see BulkInput. A row depends on no other, so nothing is carried."""

    def __init__(self, signature: Signature, dataset: Dataset) -> None:
        self._batch_axis = signature.batch_axis()
        self._columns = dataset.columns
        self._inputs = [row_spec(spec, self._batch_axis) for spec in signature.inputs]
        self._names = [dataset.columns.get(spec.name, spec.name) for spec in signature.inputs]

    @property
    def columns(self) -> tuple[str, ...]:
        """See BulkInput."""
        return tuple(self._names)

    def problems(self, schema: pa.Schema) -> list[str]:
        """See BulkInput."""
        problems = bulk_columns.unknown_columns(self._columns, [spec.name for spec in self._inputs])
        for spec, name in zip(self._inputs, self._names, strict=True):
            if not spec.ranked:
                problems.append(f"input {spec.name!r}: the model leaves its number of axes open, which no column can")
            elif name not in schema.names:
                problems.append(bulk_columns.missing(name, spec.name, schema))
            elif not _fits(schema.field(name).type, spec):
                depth = len(spec.shape)
                lists = f"lists, {depth} deep, of " if depth > 1 else "lists of " if depth else ""
                problems.append(bulk_columns.wrong_type(name, schema.field(name).type, f"{lists}{spec.datatype}"))
        return problems

    def begin(self, carry: bytes) -> None:
        """See BulkInput."""
        assert not carry, "plain tensors carry nothing"

    def carry(self) -> bytes:
        """See BulkInput."""
        return b""

    def prepare(self, columns: pa.RecordBatch, faults: Sequence[RowFault]) -> TensorRows:
        """See BulkInput."""
        regular = np.ones(columns.num_rows, np.bool_)
        regular[[fault.row for fault in faults]] = False
        given = {spec.name: columns.column(name) for spec, name in zip(self._inputs, self._names, strict=True)}
        for spec in self._inputs:
            regular &= _regular(given[spec.name], spec, regular)
        unread = {fault.row for fault in faults}
        odd_rows: dict[int, Tensors] = {}
        found: list[RowFault] = []
        for row in np.flatnonzero(~regular).tolist():
            if row in unread:
                continue
            tensors = self._one(given, row)
            if isinstance(tensors, InvalidValues):
                found.append(RowFault(row, tensors.reason, str(tensors)))
            else:
                odd_rows[row] = tensors
        good = np.flatnonzero(regular) if not odd_rows else np.sort([*np.flatnonzero(regular), *odd_rows])
        tensors = {spec.name: self._block(given[spec.name], spec, regular, good) for spec in self._inputs}
        odd = {int(np.searchsorted(good, row)): one for row, one in odd_rows.items()}
        all_faults = sorted([*faults, *found], key=lambda fault: fault.row)
        return TensorRows(good, all_faults, tensors, odd, self._batch_axis is not None)

    def _block(self, column: pa.Array, spec: TensorSpec, regular: Array, good: Array) -> Array:
        """The tensor of all good rows; those that are odd hold zeros."""
        rows = column if regular.all() else column.filter(pa.array(regular))
        array = _stacked(rows, spec)
        if len(array) == len(good):
            return array
        spread = np.zeros((len(good), *array.shape[1:]), array.dtype)
        spread[regular[good]] = array
        return spread

    def _one(self, given: dict[str, pa.Array], row: int) -> Tensors | InvalidValues:
        """A row as the live path reads it."""
        tensors: Tensors = {}
        faults: list[Fault] = []
        sizes: dict[str, int] = {}
        for spec in self._inputs:
            tensor = tensor_of(spec, given[spec.name][row].as_py())
            if isinstance(tensor, Fault):
                faults.append(tensor)
            else:
                faults += spec.faults(tensor, sizes)
                tensors[spec.name] = tensor
        return InvalidValues(faults) if faults else tensors


def row_spec(spec: TensorSpec, batch_axis: str | None) -> TensorSpec:
    """What a row has of a tensor: all of it, or one entry of the batch axis."""
    return spec if batch_axis is None else TensorSpec(spec.name, spec.datatype, spec.shape[1:], spec.ranked)


def _fits(kind: pa.DataType, spec: TensorSpec) -> bool:
    for _ in spec.shape:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            return bool(pa.types.is_null(kind))
        kind = kind.value_type
    match DTYPES[spec.datatype].kind:
        case "f":
            return bulk_columns.is_number(kind)
        case "b":
            return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))
        case "O":
            return bulk_columns.is_text(kind) or bool(pa.types.is_null(kind))
        case _:
            return bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _regular(column: pa.Array, spec: TensorSpec, among: Array) -> Array:
    """BOOL [n]: rows that have a value throughout, in its range, with the sizes that most likely all have.

    An open size is that of the first row that is `among` them. A named size agrees over inputs only where its rows are
    read one by one, so a row whose named sizes are open counts as regular only with a fixed one.
    """
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.bool_)
    fits = among & column.is_valid().to_numpy(zero_copy_only=False)
    for depth in range(1, len(spec.shape) + 1):
        if not fits.any():
            return fits
        fits[fits] = _sized(column.filter(pa.array(fits)), spec.shape[:depth])
    if fits.any():
        leaves = _leaves(column.filter(pa.array(fits)), len(spec.shape))
        fits[fits] = _in_range(leaves, spec.datatype).reshape(int(fits.sum()), -1).all(axis=1)
    return fits


def _sized(rows: pa.Array, shape: tuple[Dim, ...]) -> Array:
    """BOOL [n]: rows whose lists at this depth, and no other, are of the size of the last axis of `shape`."""
    count = len(rows)
    level = _leaves(rows, len(shape) - 1)
    sizes = _COMPUTE.list_value_length(level).cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    dim = shape[-1]
    wanted = dim if isinstance(dim, int) else int(sizes[0]) if len(sizes) else 0
    return (sizes == max(wanted, 1)).reshape(count, -1).all(axis=1)


def _leaves(rows: pa.Array, depth: int) -> pa.Array:
    """The values `depth` lists down. There is no null above them."""
    for _ in range(depth):
        rows = rows.flatten()
    return rows


def _in_range(leaves: pa.Array, datatype: str) -> Array:
    """BOOL: values that are there and that the datatype can hold."""
    dtype = DTYPES[datatype]
    known = leaves.is_valid().to_numpy(zero_copy_only=False)
    if dtype.kind in "bO":
        return known
    if dtype.kind == "f":
        values, limits = bulk_columns.numbers(leaves), np.finfo(dtype)
        return known & (values >= float(limits.min)) & (values <= float(limits.max))
    values, bounds = leaves.fill_null(0).to_numpy(zero_copy_only=False), np.iinfo(dtype)
    widest = np.iinfo(values.dtype)
    for limit, inside in ((bounds.min, np.greater_equal), (bounds.max, np.less_equal)):
        if widest.min <= limit <= widest.max:
            known &= inside(values, values.dtype.type(limit))
    return known


def _stacked(rows: pa.Array, spec: TensorSpec) -> Array:
    """Regular rows as one tensor [n, ...]."""
    dtype = DTYPES[spec.datatype]
    count, depth = len(rows), len(spec.shape)
    if not count:
        return np.zeros((0, *(dim if isinstance(dim, int) else 1 for dim in spec.shape)), dtype)
    shape = [count]
    level = rows
    for _ in range(depth):
        shape.append(int(_COMPUTE.list_value_length(level)[0].as_py()))
        level = level.flatten()
    if dtype.kind == "O":
        values = np.array(bulk_columns.plain_text(level).to_pylist(), np.object_)
    else:
        values = level.to_numpy(zero_copy_only=False).astype(dtype)
    return values.reshape(shape)
