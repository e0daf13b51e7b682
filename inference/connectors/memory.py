"""The in-memory twins of sources, sinks and stores: they keep the contracts, and hold everything."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from inference.connectors.connector import Block
from inference.job import InputFile
from inference.job_errors import InputChanged
from inference.shard import Part, Piece, ShardRange

ERRORS_SCHEMA = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("error", pa.string())])


class MemorySource:
    """The rows of one table. `change` gives it other rows, as somebody may do to a file."""

    def __init__(self, table: pa.Table, name: str = "memory") -> None:
        self._table = table.combine_chunks()
        self._name = name
        self._planned: InputFile | None = None

    def change(self, table: pa.Table) -> None:
        """Other rows from now on."""
        self._table = table.combine_chunks()

    def inputs(self) -> tuple[InputFile, ...]:
        """See Source."""
        digest = hashlib.sha256(_ipc(self._table.schema, self._table.to_batches())).hexdigest()
        return (InputFile(self._name, self._table.nbytes, f"sha256:{digest}"),)

    def schema(self) -> pa.Schema:
        """See Source."""
        return self._table.schema

    def plan(self, shard_rows: int) -> Iterator[ShardRange]:
        """See Source."""
        (self._planned,) = self.inputs()
        for number, start in enumerate(range(0, self._table.num_rows, shard_rows)):
            stop = min(start + shard_rows, self._table.num_rows)
            yield ShardRange(number, start, stop - start, (Piece(0, start, stop),))

    def read(self, shard: ShardRange, columns: Sequence[str], block_rows: int) -> Iterator[Block]:
        """See Source."""
        (now,) = self.inputs()
        if self._planned is not None and now != self._planned:
            raise InputChanged(self._name, now.fingerprint, self._planned.fingerprint)
        rows = self._table.select(list(columns))
        for piece in shard.pieces:
            for start in range(piece.start, piece.stop, block_rows):
                part = rows.slice(start, min(block_rows, piece.stop - start)).combine_chunks()
                for batch in part.to_batches():
                    yield Block(start, batch)

    def close(self) -> None:
        """Nothing is open."""


class MemorySink:
    """Parts in a dictionary; once it is finished `rows` and `errors` hold the output."""

    def __init__(self) -> None:
        self.parts: dict[str, list[pa.RecordBatch]] = {}
        self.rows: pa.Table | None = None
        self.errors: pa.Table | None = None

    def begin(self, number: int, attempt: int, schema: pa.Schema) -> MemoryPart:
        """See Sink."""
        return MemoryPart(self.parts, f"{number:06}.{attempt}", schema)

    def begin_errors(self, number: int, attempt: int) -> MemoryPart:
        """See Sink."""
        return MemoryPart(self.parts, f"{number:06}.{attempt}.errors", ERRORS_SCHEMA)

    def finish(self, parts: Sequence[Part], errors: Sequence[Part], schema: pa.Schema) -> Part:
        """See Sink."""
        if self.rows is None:
            self.rows = pa.Table.from_batches([rows for part in parts for rows in self.parts[part.name]], schema)
            bad = [rows for part in errors for rows in self.parts[part.name]]
            self.errors = pa.Table.from_batches(bad, bad[0].schema if bad else ERRORS_SCHEMA)
        manifest = "\n".join(f"{part.sha256} {part.rows} {part.name}" for part in parts).encode()
        return Part("manifest", self.rows.num_rows, len(manifest), hashlib.sha256(manifest).hexdigest())

    def discard(self) -> None:
        """See Sink."""
        self.parts.clear()


class MemoryPart:
    """One attempt at a part; nobody sees its rows before it is committed."""

    def __init__(self, parts: dict[str, list[pa.RecordBatch]], name: str, schema: pa.Schema) -> None:
        self._parts = parts
        self._name = name
        self._schema = schema
        self._rows: list[pa.RecordBatch] = []

    def write(self, rows: pa.RecordBatch) -> None:
        """See PartWriter."""
        self._rows.append(rows)

    def commit(self) -> Part:
        """See PartWriter."""
        schema = self._rows[0].schema if self._rows else self._schema
        content = _ipc(schema, self._rows)
        self._parts[self._name] = self._rows
        rows = sum(batch.num_rows for batch in self._rows)
        return Part(self._name, rows, len(content), hashlib.sha256(content).hexdigest())

    def abort(self) -> None:
        """See PartWriter."""
        self._rows = []


class MemoryStore:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def create(self, name: str) -> MemoryDraft:
        """See Store."""
        return MemoryDraft(self.files, name)

    def open(self, name: str) -> BinaryIO:
        """See Store."""
        if name not in self.files:
            raise FileNotFoundError(name)
        return io.BytesIO(self.files[name])

    def size(self, name: str) -> int | None:
        """See Store."""
        return len(self.files[name]) if name in self.files else None

    def names(self, prefix: str) -> list[str]:
        """See Store."""
        return sorted(name for name in self.files if name.startswith(prefix))

    def move(self, name: str, new_name: str) -> None:
        """See Store."""
        if name not in self.files:
            raise FileNotFoundError(name)
        self.files[new_name] = self.files.pop(name)

    def delete(self, name: str) -> None:
        """See Store."""
        self.files.pop(name, None)


class MemoryDraft:
    """A file that nobody sees yet."""

    def __init__(self, files: dict[str, bytes], name: str) -> None:
        self._files = files
        self._name = name
        self._content = bytearray()

    def write(self, content: bytes | memoryview) -> int:
        """See Draft."""
        self._content += content
        return len(content)

    def commit(self) -> None:
        """See Draft."""
        self._files[self._name] = bytes(self._content)

    def abort(self) -> None:
        """See Draft."""
        self._content.clear()


def _ipc(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> bytes:
    """The rows as an Arrow stream."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return buffer.getvalue()
