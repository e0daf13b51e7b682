"""The contract of sources and sinks; `connectors/memory.py` keeps it in memory. docs/batch.md tells how they are used.

A source cuts its rows into shards and reads one of them as a stream of blocks. A sink writes the rows of a shard whole
or not at all, and puts all shards together in the end. Both lie upon stores (`connectors/store.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inference.job import InputFile
from inference.shard import Part, RowFault, ShardRange

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True, frozen=True, eq=False)
class Block:
    """Rows that follow each other. A row that cannot be read is named in `faults`, and its columns hold null."""

    first_row: int  # its place in the whole dataset
    columns: pa.RecordBatch
    faults: tuple[RowFault, ...] = ()


class Source(Protocol):
    """A dataset. Raises SourceInvalid with every problem when it is opened, StoreUnavailable while it is read."""

    def inputs(self) -> tuple[InputFile, ...]:
        """What the rows come from, in their order."""
        ...

    def schema(self) -> pa.Schema:
        """The columns that `read` can give."""
        ...

    def plan(self, shard_rows: int) -> Iterator[ShardRange]:
        """All rows in shards of about so many, by the inputs alone: the same whoever asks, on any machine."""
        ...

    def read(self, shard: ShardRange, columns: Sequence[str], block_rows: int) -> Iterator[Block]:
        """The rows of a shard in order, `block_rows` a block at most, cut alike each time. Raises InputChanged."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class PartWriter(Protocol):
    """One attempt at the part of a shard. Raises StoreFull, StoreUnavailable."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        ...

    def commit(self) -> Part:
        """The part is there for good: synced, under its name. Only now may the ledger be told."""
        ...

    def abort(self) -> None:
        """Nothing of it stays; no-op after `commit`."""
        ...


class Sink(Protocol):
    """An output in the making. Parts of several attempts may stand side by side; the ledger says which one counts."""

    def begin(self, number: int, attempt: int, schema: pa.Schema) -> PartWriter:
        """Write the part of this shard."""
        ...

    def begin_errors(self, number: int, attempt: int) -> PartWriter:
        """Write the dead letters of this shard: columns row, reason and error, and those that are kept."""
        ...

    def finish(self, parts: Sequence[Part], errors: Sequence[Part], schema: pa.Schema) -> Part:
        """Put the parts together in this order and make the output visible; its manifest.

        May be called again after any crash, and then finds done what was done.
        """
        ...

    def discard(self) -> None:
        """Remove every part that lies in the job's folder; the output itself stays."""
        ...
