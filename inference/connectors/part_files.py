"""One part of an output as a file: Parquet, Arrow, CSV or JSON lines, hashed while it is written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from inference.connectors.store import Draft, Store
from inference.shard import Part

COMPRESSION = "zstd"
CSV_OPTIONS = pa_csv.WriteOptions(include_header=False)


class RowWriter(Protocol):
    """Rows on their way into a file."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Write what belongs at the end."""
        ...


class ParquetRows:
    """Parquet; the row groups are as `write` gives them."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression=COMPRESSION)

    def write(self, rows: pa.RecordBatch) -> None:
        """See RowWriter."""
        self._writer.write_batch(rows)

    def close(self) -> None:
        """See RowWriter."""
        self._writer.close()


class IpcRows:
    """An Arrow file, which costs next to nothing to write and to read again."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_file(file, schema)

    def write(self, rows: pa.RecordBatch) -> None:
        """See RowWriter."""
        self._writer.write_batch(rows)

    def close(self) -> None:
        """See RowWriter."""
        self._writer.close()


class CsvRows:
    """CSV without its header. Columns must be flat."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pa_csv.CSVWriter(file, schema, write_options=CSV_OPTIONS)

    def write(self, rows: pa.RecordBatch) -> None:
        """See RowWriter."""
        self._writer.write_batch(rows)

    def close(self) -> None:
        """See RowWriter."""
        self._writer.close()


class JsonRows:
    """A JSON object a line. NaN and infinity, which JSON does not have, are null."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()

    def write(self, rows: pa.RecordBatch) -> None:
        """See RowWriter."""
        self._file.write(self._encoder.encode_lines(rows.to_pylist()))

    def close(self) -> None:
        """See RowWriter: nothing belongs there."""


ROW_WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], RowWriter]] = {
    "parquet": ParquetRows,
    "arrow": IpcRows,
    "csv": CsvRows,
    "jsonl": JsonRows,
}


class HashedFile(io.RawIOBase):
    """A draft as a file that is only written to, with the count and the sha256 of what has gone through."""

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    def write(self, content: object) -> int:
        """Append bytes. Raises StoreFull, StoreUnavailable."""
        given = memoryview(cast("bytes", content))  # whatever has a buffer, as every file takes it
        self._draft.write(given)
        self._digest.update(given)
        self.bytes += given.nbytes
        return given.nbytes


class PartFile:
    """A part in the making; see PartWriter. Nobody sees it before `commit`."""

    def __init__(self, store: Store, name: str, kind: str, schema: pa.Schema) -> None:
        self._name = name
        self._draft = store.create(name)
        self._file = HashedFile(self._draft)
        self._rows = 0
        self._over = False
        self._writer = ROW_WRITERS[kind](cast("BinaryIO", self._file), schema)

    def write(self, rows: pa.RecordBatch) -> None:
        """See PartWriter."""
        self._writer.write(rows)
        self._rows += rows.num_rows

    def commit(self) -> Part:
        """See PartWriter."""
        self._writer.close()
        self._draft.commit()
        self._over = True
        return Part(self._name, self._rows, self._file.bytes, self._file.sha256)

    def abort(self) -> None:
        """See PartWriter."""
        if not self._over:
            self._over = True
            with suppress(Exception):  # it writes its end, for which there may be no room
                self._writer.close()
            self._draft.abort()
