"""The output of a job: parts beside it while it is made, then one file in shard order, or a folder of parts.

docs/batch.md tells where everything lies. Every step of `finish` finds done what was done before a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv

from inference.connectors.memory import ERRORS_SCHEMA
from inference.connectors.part_files import HashedFile, ParquetRows, PartFile
from inference.connectors.store import Store
from inference.job import Output
from inference.job_errors import OutputInvalid, StoreUnavailable
from inference.shard import Part

COPY_BYTES = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True):
    """What the output was made of: its files and their parts in order. Its name there is the commit of the output."""

    output: str
    rows: int
    files: tuple[Part, ...]  # of the output as it lies there
    parts: tuple[Part, ...]
    errors: Part | None = None


class FileSink:
    """An output at `name` of a store, with the job's own files below `job_prefix`; see Sink.

    Raises OutputInvalid for columns that the format cannot hold.
    """

    def __init__(self, output: Output, store: Store, name: str, job_prefix: str) -> None:
        self._output = output
        self._store = store
        self._name = name
        self._prefix = job_prefix
        self._kind = "arrow" if output.single and output.format == "parquet" else output.format

    def begin(self, number: int, attempt: int, schema: pa.Schema) -> PartFile:
        """See Sink."""
        nested = [field.name for field in schema if pa.types.is_nested(field.type)]
        if self._output.format == "csv" and nested:
            raise OutputInvalid(
                self._output.path, [f"CSV cannot hold {', '.join(nested)}: name a .parquet or .jsonl file"]
            )
        return PartFile(self._store, self._part_name(number, attempt, self._kind), self._kind, schema)

    def begin_errors(self, number: int, attempt: int) -> PartFile:
        """See Sink."""
        return PartFile(self._store, self._part_name(number, attempt, "errors.jsonl"), "jsonl", ERRORS_SCHEMA)

    def finish(self, parts: Sequence[Part], errors: Sequence[Part], schema: pa.Schema) -> Part:
        """See Sink."""
        known = self._manifest()
        if known is not None and known.parts == tuple(parts):
            return self._manifest_part(known)
        files = self._joined(parts, schema) if self._output.single else self._moved(parts)
        letters = self._dead_letters(errors) if errors else None
        rows = sum(part.rows for part in parts)
        manifest = Manifest(self._output.path, rows, files, tuple(parts), letters)
        draft = self._store.create(self._manifest_name)
        draft.write(msgspec.json.encode(manifest))
        draft.commit()
        return self._manifest_part(manifest)

    def discard(self) -> None:
        """See Sink."""
        for name in self._store.names(f"{self._prefix}parts/"):
            self._store.delete(name)

    # ---- inside ------------------------------------------------------------------------------------------------------

    @property
    def _manifest_name(self) -> str:
        return f"{self._prefix}manifest.json"

    def _part_name(self, number: int, attempt: int, ending: str) -> str:
        return f"{self._prefix}parts/{number:06}.{attempt}.{ending}"

    def _manifest(self) -> Manifest | None:
        """The manifest of an output that is still there as it was made."""
        if self._store.size(self._manifest_name) is None:
            return None
        with self._store.open(self._manifest_name) as file:
            manifest = msgspec.json.decode(file.read(), type=Manifest)
        whole = all(self._store.size(part.name) == part.bytes for part in manifest.files)
        return manifest if whole else None

    def _manifest_part(self, manifest: Manifest) -> Part:
        content = msgspec.json.encode(manifest)
        return Part(self._manifest_name, manifest.rows, len(content), hashlib.sha256(content).hexdigest())

    def _moved(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """A folder's parts under their names."""
        files = []
        for place, part in enumerate(parts):
            name = f"{self._name}/part-{place:06}.{self._output.format}"
            if self._store.size(part.name) is not None:
                self._store.move(part.name, name)
            elif self._store.size(name) != part.bytes:
                raise StoreUnavailable(part.name, "the part is not there, nor the file that was made of it")
            files.append(Part(name, part.rows, part.bytes, part.sha256))
        return tuple(files)

    def _joined(self, parts: Sequence[Part], schema: pa.Schema) -> tuple[Part, ...]:
        """One file of all parts in order, seen once it is whole."""
        draft = self._store.create(self._name)
        try:
            file = HashedFile(draft)
            if self._output.format == "parquet":
                writer = ParquetRows(cast("BinaryIO", file), schema)
                try:
                    for rows in self._rows_of(parts):
                        writer.write(rows)
                finally:
                    writer.close()
            else:
                if self._output.format == "csv":
                    pa_csv.write_csv(pa.Table.from_batches([], schema), cast("BinaryIO", file))  # its header
                for part in parts:
                    self._copy(part, file)
            draft.commit()
        finally:
            draft.abort()
        return (Part(self._name, sum(part.rows for part in parts), file.bytes, file.sha256),)

    def _rows_of(self, parts: Sequence[Part]) -> Iterator[pa.RecordBatch]:
        for part in parts:
            with self._store.open(part.name) as opened, pa.ipc.open_file(opened) as batches:
                for place in range(batches.num_record_batches):
                    yield batches.get_batch(place)

    def _dead_letters(self, errors: Sequence[Part]) -> Part:
        name = f"{self._name}.errors.jsonl" if self._output.single else f"{self._name}/_errors.jsonl"
        draft = self._store.create(name)
        try:
            file = HashedFile(draft)
            for part in errors:
                self._copy(part, file)
            draft.commit()
        finally:
            draft.abort()
        return Part(name, sum(part.rows for part in errors), file.bytes, file.sha256)

    def _copy(self, part: Part, file: HashedFile) -> None:
        with self._store.open(part.name) as opened:
            while content := opened.read(COPY_BYTES):
                file.write(content)
