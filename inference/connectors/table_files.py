"""Parquet and Arrow IPC files as a source: read in blocks, never whole, and cut by row numbers alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from inference.connectors.connector import Block
from inference.connectors.input_files import find_files
from inference.fault import quoted
from inference.job import InputFile
from inference.job_errors import InputChanged, SourceInvalid, StoreUnavailable
from inference.shard import Piece, ShardRange

HASHED_BYTES = 1024 * 1024


class TableFile(Protocol):
    """One open file of rows."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        ...

    @property
    def group_rows(self) -> Sequence[int]:
        """Rows of each group that can be read on its own, in order."""
        ...

    def read_group(self, group: int, columns: Sequence[str], block_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a group in batches of `block_rows` at most."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class ParquetTable:
    """A Parquet file; its groups are the row groups."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, pre_buffer=True)
        self.schema = self._file.schema_arrow.remove_metadata()
        facts = self._file.metadata
        self.group_rows = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]

    def read_group(self, group: int, columns: Sequence[str], block_rows: int) -> Iterator[pa.RecordBatch]:
        """See TableFile."""
        wanted = list(columns)
        for batch in self._file.iter_batches(block_rows, [group], wanted, use_threads=False):
            yield batch.select(wanted)  # they come in the file's order

    def close(self) -> None:
        """See TableFile."""
        self._file.close()


class IpcTable:
    """An Arrow IPC file (Feather version 2), mapped into memory; its groups are the record batches."""

    def __init__(self, path: Path) -> None:
        self._map = pa.memory_map(os.fspath(path))
        self._file = pa.ipc.open_file(self._map)
        self.schema = self._file.schema.remove_metadata()
        self.group_rows = [self._file.get_batch(group).num_rows for group in range(self._file.num_record_batches)]

    def read_group(self, group: int, columns: Sequence[str], block_rows: int) -> Iterator[pa.RecordBatch]:
        """See TableFile."""
        batch = self._file.get_batch(group).select(list(columns))
        for start in range(0, batch.num_rows, block_rows):
            yield batch.slice(start, block_rows)

    def close(self) -> None:
        """See TableFile."""
        self._map.close()


OPEN: dict[str, Callable[[Path], TableFile]] = {"parquet": ParquetTable, "ipc": IpcTable}
ENDINGS = {"parquet": (".parquet", ".pq"), "ipc": (".arrow", ".feather", ".ipc")}


@dataclass(slots=True)
class _File:
    path: Path
    bytes: int
    changed_ns: int
    rows: int
    fingerprint: str = ""


class TableFiles:
    """The rows of files of one format and one schema, in the order of the paths; see Source.

    A folder stands for all files of the format below it, sorted by path. Raises SourceInvalid with everything that is
    wrong: a path that is not there, a file that cannot be read, other columns than in the first file.
    """

    def __init__(self, paths: Sequence[str], kind: str) -> None:
        self._open = OPEN[kind]
        dataset = quoted(paths[0]) if len(paths) == 1 else f"of {len(paths)} paths"
        found, problems = find_files(paths, ENDINGS[kind])
        schema: pa.Schema | None = None
        self._files: list[_File] = []
        for path in found:
            try:
                file = self._open(path)
            except (OSError, pa.ArrowException) as error:
                problems.append(f"{path}: cannot be read as {kind}: {str(error)[:200]}")
                continue
            problems += _schema_problems(path, file.schema, schema)
            schema = schema or file.schema
            facts = path.stat()
            self._files.append(_File(path, facts.st_size, facts.st_mtime_ns, sum(file.group_rows)))
            file.close()
        if problems or schema is None:
            raise SourceInvalid(dataset, problems or [f"no file ends in {' or '.join(ENDINGS[kind])}"])
        self._schema = schema

    def inputs(self) -> tuple[InputFile, ...]:
        """See Source. Reads every byte the first time."""
        for file in self._files:
            self._check(file)
            file.fingerprint = file.fingerprint or _sha256(file.path)
        return tuple(InputFile(os.fspath(file.path), file.bytes, file.fingerprint) for file in self._files)

    def schema(self) -> pa.Schema:
        """See Source."""
        return self._schema

    def plan(self, shard_rows: int) -> Iterator[ShardRange]:
        """See Source: shards of exactly so many rows, the last one of what is left; files do not matter."""
        ends = list(accumulate(file.rows for file in self._files))
        total = ends[-1] if ends else 0
        for number, first in enumerate(range(0, total, shard_rows)):
            stop = min(first + shard_rows, total)
            pieces = []
            for place, (end, file) in enumerate(zip(ends, self._files, strict=True)):
                start = end - file.rows
                if file.rows and start < stop and first < end:
                    pieces.append(Piece(place, max(first, start) - start, min(stop, end) - start))
            yield ShardRange(number, first, stop - first, tuple(pieces))

    def read(self, shard: ShardRange, columns: Sequence[str], block_rows: int) -> Iterator[Block]:
        """See Source."""
        row = shard.first_row
        for piece in shard.pieces:
            file = self._files[piece.input]
            self._check(file)
            table = self._open(file.path)
            try:
                for batch in _rows(table, piece, columns, block_rows):
                    yield Block(row, batch)
                    row += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                self._check(file)  # what is gone or was written over is the likelier reason
                raise StoreUnavailable(os.fspath(file.path), str(error)) from error
            finally:
                table.close()

    def close(self) -> None:
        """See Source: nothing stays open between two reads."""

    def _check(self, file: _File) -> None:
        """Raises InputChanged if the file is not the one that was there when the source was opened."""
        then = f"{file.bytes} bytes, written at {file.changed_ns} ns"
        try:
            now = file.path.stat()
        except OSError as error:
            raise InputChanged(os.fspath(file.path), f"not there ({error.strerror})", then) from error
        if (now.st_size, now.st_mtime_ns) != (file.bytes, file.changed_ns):
            raise InputChanged(os.fspath(file.path), f"{now.st_size} bytes, written at {now.st_mtime_ns} ns", then)


def _rows(table: TableFile, piece: Piece, columns: Sequence[str], block_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a piece. Groups before it are not read, and of the first one only what comes before is dropped."""
    start = 0
    for group, rows in enumerate(table.group_rows):
        stop = start + rows
        if start < piece.stop and piece.start < stop:
            at = start
            for batch in table.read_group(group, columns, block_rows):
                first, last = max(piece.start - at, 0), min(piece.stop - at, batch.num_rows)
                at += batch.num_rows
                if first < last:
                    yield batch.slice(first, last - first)
        start = stop


def _schema_problems(path: Path, schema: pa.Schema, first: pa.Schema | None) -> list[str]:
    """What differs from the first file."""
    if first is None or schema.equals(first):
        return []
    both = dict.fromkeys([*first.names, *schema.names])
    names = [name for name in both if _type(schema, name) != _type(first, name)][:5]
    shown = ", ".join(f"{name!r} ({_type(schema, name)}, in the first file {_type(first, name)})" for name in names)
    return [f"{path}: its columns are not those of the first file: {shown or 'another order'}"]


def _type(schema: pa.Schema, name: str) -> object:
    place = schema.get_field_index(name)
    return "none" if place < 0 else schema.field(place).type


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(HASHED_BYTES):
            digest.update(content)
    return f"sha256:{digest.hexdigest()}"
