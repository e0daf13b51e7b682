"""From outputs of many rows to the columns that a job writes, with the numbers that the live path shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from inference.errors import InvalidValues
from inference.fault import Fault, quoted
from inference.model import Output
from inference.pipeline.bulk import PreparedRows
from inference.pipeline.postprocess import CONFIDENCE_DIGITS
from inference.shard import CONFIDENCE_BINS, RowFault, Tally
from inference.tensor import Array, Tensors

ROW = "row"
ERROR = "error"
_SCALE = 10.0**CONFIDENCE_DIGITS
_TIE = 1e-4  # of the last digit: what is nearer to the middle between two digits is rounded by Python


def output_schema(kept: pa.Schema, predicted: Sequence[pa.Field]) -> pa.Schema:
    """Columns that are kept, `row`, those of the prediction, `error`.

    Raises InvalidValues if a kept one has the name of another.
    """
    fields = [*kept, pa.field(ROW, pa.int64(), nullable=False), *predicted, pa.field(ERROR, pa.string())]
    own = {field.name for field in fields[len(kept) :]}
    taken = [name for place, name in enumerate(kept.names) if name in own or name in kept.names[:place]]
    if taken:
        accepted = f"columns other than {', '.join(sorted(own))}, each once"
        raise InvalidValues([Fault("keep", quoted(name), accepted) for name in taken])
    return pa.schema(fields)


class OutputRows:
    """The rows of one block in the making: which are predicted, and what the others fail with."""

    def __init__(self, count: int, prepared: PreparedRows, failed: Sequence[RowFault]) -> None:
        """`count`: rows of the block."""
        self.count = count
        self.faults = [*prepared.faults, *failed]
        good = prepared.good
        self._whole = not self.faults and len(good) == count
        # Of `prepared.good`, those that the model answered.
        self.answered: Array | slice = slice(None)
        if failed:
            lost = np.fromiter((fault.row for fault in failed), np.int64, len(failed))
            self.answered = np.flatnonzero(~np.isin(good, lost))
        self.places = good[self.answered]
        assert len(self.places) + len(self.faults) == count, "a row has a prediction or one fault"

    def spread(self, values: Array, kind: pa.DataType) -> pa.Array:
        """A column from the values of the answered rows, null for all others."""
        if self._whole:
            return pa.array(values, kind)
        column = np.zeros(self.count, values.dtype)
        column[self.places] = values
        return pa.array(column, kind, mask=self._missing())

    def spread_column(self, values: pa.Array) -> pa.Array:
        """The same for a column of arrow's."""
        if self._whole:
            return values
        places = np.zeros(self.count, np.int64)
        places[self.places] = np.arange(len(self.places))
        return values.take(pa.array(places, mask=self._missing()))

    def labels(self, names: Sequence[str], which: Array) -> pa.Array:
        """A column of text: `names[which]`."""
        return self.spread_column(pa.array(names, pa.string()).take(pa.array(which)))

    def batch(
        self, schema: pa.Schema, kept: pa.RecordBatch, first_row: int, predicted: list[pa.Array]
    ) -> pa.RecordBatch:
        """All columns, in the order of `output_schema`."""
        if self.faults:
            reasons: list[str | None] = [None] * self.count
            for fault in self.faults:
                reasons[fault.row] = fault.reason
            errors = pa.array(reasons, pa.string())
        else:
            errors = pa.nulls(self.count, pa.string())
        row = pa.array(np.arange(first_row, first_row + self.count, dtype=np.int64))
        return pa.RecordBatch.from_arrays([*kept.columns, row, *predicted, errors], schema=schema)

    def tally(self, names: Sequence[str] = (), which: Array | None = None, confidence: Array | None = None) -> Tally:
        """What the rows came to; see Tally."""
        reasons: dict[str, int] = {}
        for fault in self.faults:
            reasons[fault.reason] = reasons.get(fault.reason, 0) + 1
        labels: dict[str, int] = {}
        if which is not None:
            counts = np.bincount(which, minlength=len(names)).tolist()
            labels = {name: counts[place] for place, name in enumerate(names)}
        bins: tuple[int, ...] = ()
        if confidence is not None:
            places = np.clip((confidence * CONFIDENCE_BINS).astype(np.int64), 0, CONFIDENCE_BINS - 1)
            bins = tuple(np.bincount(places, minlength=CONFIDENCE_BINS).tolist())
        return Tally(self.count, len(self.faults), reasons, labels, bins)

    def _missing(self) -> Array:
        missing = np.ones(self.count, np.bool_)
        missing[self.places] = False
        return missing


def rounded(values: Array) -> Array:
    """FLOAT64 values from 0 to 1, rounded to CONFIDENCE_DIGITS exactly as Python's `round` does."""
    scaled = values * _SCALE
    whole = np.rint(scaled)
    result = whole / _SCALE
    ties = np.flatnonzero(np.abs(np.abs(scaled - whole) - 0.5) < _TIE)
    if len(ties):
        result[ties] = [round(value, CONFIDENCE_DIGITS) for value in values[ties].tolist()]
    return result


class BulkBinary:
    """Probability, confidence and decision; see BinaryOutput of the live path."""

    def __init__(self, output: Output) -> None:
        self._name = output.name
        self._threshold = min(output.threshold, float(np.float32(output.threshold)))
        self._labels = output.labels
        short = output.short_history_confidence
        self._by_real_rows = np.array([1.0, *short, 1.0])  # the last one for all longer histories
        self._fields = [
            pa.field("defect_probability", pa.float32()),
            pa.field("confidence", pa.float64()),
            pa.field("decision", pa.string()),
            pa.field("input_quality", pa.float64()),
            pa.field("real_rows", pa.int16()),
        ]

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See BulkOutput. Raises InvalidValues."""
        return output_schema(kept, self._fields)

    def rows(
        self, kept: pa.RecordBatch, first_row: int, prepared: PreparedRows, outputs: Tensors, failed: Sequence[RowFault]
    ) -> tuple[pa.RecordBatch, Tally]:
        """See BulkOutput."""
        rows = OutputRows(kept.num_rows, prepared, failed)
        probabilities = outputs[self._name].reshape(len(prepared.good))[rows.answered].astype(np.float64)
        positive = probabilities >= self._threshold
        confidence = np.where(positive, probabilities, 1.0 - probabilities)
        quality = np.ones(len(probabilities))
        if prepared.input_quality is not None:
            quality = prepared.input_quality[rows.answered]
            confidence *= quality
        real_rows = np.ones(len(probabilities), np.int16)
        if prepared.real_rows is not None:
            real_rows = prepared.real_rows[rows.answered]
        confidence *= self._by_real_rows[np.minimum(real_rows, len(self._by_real_rows) - 1)]
        confidence = rounded(confidence)
        which = positive.astype(np.int64)
        columns = [
            rows.spread(probabilities.astype(np.float32), pa.float32()),
            rows.spread(confidence, pa.float64()),
            rows.labels(self._labels, which),
            rows.spread(quality, pa.float64()),
            rows.spread(real_rows, pa.int16()),
        ]
        batch = rows.batch(self.schema(kept.schema), kept, first_row, columns)
        return batch, rows.tally(self._labels, which, confidence)


class BulkClasses:
    """The most probable class and one probability a class; see ClassesOutput of the live path."""

    def __init__(self, output: Output) -> None:
        self._name = output.name
        self._labels = output.labels
        self._fields = [
            pa.field("defect_type", pa.string()),
            pa.field("confidence", pa.float64()),
            *(pa.field(f"probability_{label}", pa.float32()) for label in output.labels),
        ]

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See BulkOutput. Raises InvalidValues."""
        return output_schema(kept, self._fields)

    def rows(
        self, kept: pa.RecordBatch, first_row: int, prepared: PreparedRows, outputs: Tensors, failed: Sequence[RowFault]
    ) -> tuple[pa.RecordBatch, Tally]:
        """See BulkOutput."""
        rows = OutputRows(kept.num_rows, prepared, failed)
        probabilities = outputs[self._name].reshape(len(prepared.good), len(self._labels))[rows.answered]
        which = probabilities.argmax(axis=1)
        best = np.take_along_axis(probabilities, which[:, None], axis=1)[:, 0].astype(np.float64)
        if prepared.input_quality is not None:
            best *= prepared.input_quality[rows.answered]
        confidence = rounded(best)
        single = probabilities.astype(np.float32)
        columns = [
            rows.labels(self._labels, which),
            rows.spread(confidence, pa.float64()),
            *(rows.spread(np.ascontiguousarray(single[:, place]), pa.float32()) for place in range(len(self._labels))),
        ]
        batch = rows.batch(self.schema(kept.schema), kept, first_row, columns)
        return batch, rows.tally(self._labels, which, confidence)
