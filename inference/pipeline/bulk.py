"""The contract of the bulk pipeline: from columns of many rows to tensors, and from outputs back to columns.

The same checks, windows and numbers as `InputSide` and `OutputSide` give row by row, without Python for each row. An
object belongs to one worker and sees the blocks of one shard in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from inference.shard import RowFault, Tally
from inference.tensor import Array, Tensors

if TYPE_CHECKING:
    import pyarrow as pa


IMAGE_FILE = "image_file"  # the column of a source of pictures that holds a file's bytes, beside `image`, its name


class RowsDiffer(Exception):
    """Rows of different shapes, or of a model without a batch axis, run one by one."""


class PreparedRows(Protocol):
    """A block's rows, ready to be predicted."""

    @property
    def good(self) -> Array:
        """INT64, rising: the places in the block of the rows that can be predicted."""
        ...

    @property
    def faults(self) -> Sequence[RowFault]:
        """All other rows, by their places in the block, each once."""
        ...

    @property
    def real_rows(self) -> Array | None:
        """INT16, for each of `good`: rows of its window that are known. None for a model without windows."""
        ...

    @property
    def input_quality(self) -> Array | None:
        """FLOAT64, for each of `good`: share of its values that were measured. None where that is 1 for all."""
        ...

    def tensors(self, start: int, stop: int) -> Tensors:
        """Inputs of the rows `good[start:stop]`, gathered now, so that they are still in the cache when they run.

        Raises RowsDiffer if they cannot run together.
        """
        ...


class BulkInput(Protocol):
    """Turns blocks into tensors. `columns`: what it reads, by the dataset's names."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset that it reads; once `problems` has seen a schema, only those that are there."""
        ...

    def problems(self, schema: pa.Schema) -> list[str]:
        """Sentences that name each missing or wrongly typed column; none if the dataset can be read."""
        ...

    def begin(self, carry: bytes) -> None:
        """A shard begins; `carry` is what the rows before it left, b"" where there are none."""
        ...

    def prepare(self, columns: pa.RecordBatch, faults: Sequence[RowFault]) -> PreparedRows:
        """The next block; `faults` are rows that could not be read. Raises CallerError for what spoils the dataset."""
        ...

    def carry(self) -> bytes:
        """What the rows so far leave to those behind them."""
        ...


class BulkOutput(Protocol):
    """Turns outputs into the columns that a job writes."""

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """All columns of the output: those that are kept, `row`, the prediction's, `error`."""
        ...

    def rows(
        self, kept: pa.RecordBatch, first_row: int, prepared: PreparedRows, outputs: Tensors, failed: Sequence[RowFault]
    ) -> tuple[pa.RecordBatch, Tally]:
        """One output row for each row of the block.

        `outputs` has a row for each of `prepared.good`, whatever it holds for those that `failed` in the model.
        """
        ...
