"""What every source, sink and store keeps; each implementation's tests call these with its own."""

from __future__ import annotations

import pyarrow as pa
import pytest

from inference.connectors.connector import Sink, Source
from inference.connectors.store import Store


def read_all(source: Source, columns: list[str], shard_rows: int, block_rows: int) -> pa.Table:
    """All rows by shards and blocks, having looked that these fit together."""
    batches: list[pa.RecordBatch] = []
    row = 0
    for place, shard in enumerate(source.plan(shard_rows)):
        assert (shard.number, shard.first_row) == (place, row)
        blocks = list(source.read(shard, columns, block_rows))
        for block in blocks:
            assert block.first_row == row
            assert 0 < block.columns.num_rows <= block_rows
            assert block.columns.schema.names == columns
            assert all(0 <= fault.row < block.columns.num_rows for fault in block.faults)
            row += block.columns.num_rows
            batches.append(block.columns)
        assert shard.rows in (None, sum(block.columns.num_rows for block in blocks))
    return pa.Table.from_batches(batches, pa.schema([source.schema().field(name) for name in columns]))


def check_source(source: Source, expected: pa.Table) -> None:
    """The rows are those expected, however they are cut, and twice the same."""
    columns = expected.schema.names
    assert set(columns) <= set(source.schema().names)
    assert source.inputs() == source.inputs()
    for shard_rows, block_rows in ((1, 1), (3, 2), (7, 100), (10**9, 10**9)):
        assert read_all(source, columns, shard_rows, block_rows).equals(expected)
        assert list(source.plan(shard_rows)) == list(source.plan(shard_rows))
    some = columns[-1:]
    assert read_all(source, some, 4, 3).equals(expected.select(some))


def check_sink(sink: Sink, rows: pa.Table) -> None:
    """Aborted attempts leave nothing, later attempts count; finishing is repeatable. The caller reads the output."""
    half = rows.num_rows // 2
    parts = []
    for number, piece in enumerate((rows.slice(0, half), rows.slice(half))):
        lost = sink.begin(number, 1, rows.schema)
        lost.write(rows.to_batches()[0])
        lost.abort()
        writer = sink.begin(number, 2, rows.schema)
        for batch in piece.to_batches():
            writer.write(batch)
        part = writer.commit()
        writer.abort()
        assert part.rows == piece.num_rows
        parts.append(part)
    assert len({part.name for part in parts}) == 2
    manifest = sink.finish(parts, [], rows.schema)
    assert manifest.rows == rows.num_rows
    assert sink.finish(parts, [], rows.schema) == manifest


def check_store(store: Store) -> None:
    """Files are whole or absent."""
    draft = store.create("job/parts/a.bin")
    draft.write(b"first")
    draft.write(memoryview(b" second"))
    assert store.size("job/parts/a.bin") is None
    assert store.names("job/") == []
    draft.commit()
    draft.abort()
    assert store.size("job/parts/a.bin") == 12
    with store.open("job/parts/a.bin") as file:
        file.seek(6)
        assert file.read() == b"second"
    lost = store.create("job/parts/b.bin")
    lost.write(b"lost")
    lost.abort()
    again = store.create("job/parts/a.bin")
    again.write(b"other")
    again.commit()
    assert store.names("job/parts/") == ["job/parts/a.bin"]
    store.move("job/parts/a.bin", "out/a.bin")
    assert (store.size("job/parts/a.bin"), store.size("out/a.bin")) == (None, 5)
    for missing in (lambda: store.open("job/parts/a.bin"), lambda: store.move("job/parts/a.bin", "c")):
        with pytest.raises(FileNotFoundError):
            missing()
    store.delete("out/a.bin")
    store.delete("out/a.bin")
    assert store.names("") == []
