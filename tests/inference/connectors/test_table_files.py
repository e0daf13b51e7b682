"""Parquet and Arrow files give their rows in order, however files, groups, shards and blocks are cut."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.connectors.table_files import TableFiles
from inference.job_errors import InputChanged, SourceInvalid, StoreUnavailable
from tests.inference.connectors.contracts import check_source, read_all


def table(start: int, stop: int) -> pa.Table:
    values = list(range(start, stop))
    return pa.table(
        {
            "stream_id": pa.array([f"line {value % 3}" for value in values], pa.string()),
            "temperature": pa.array([None if value % 7 == 6 else value / 2 for value in values], pa.float64()),
            "row_id": pa.array(values, pa.int64()),
        }
    )


def write(path: Path, rows: pa.Table, group_rows: int, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(rows, path, row_group_size=group_rows)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=group_rows)


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_they_keep_the_contract_of_sources(tmp_path: Path, kind: str) -> None:
    ending = {"parquet": "parquet", "ipc": "arrow"}[kind]
    for place, (start, stop, group_rows) in enumerate([(0, 10, 4), (10, 10, 5), (10, 25, 100), (25, 26, 1)]):
        write(tmp_path / f"{place}.{ending}", table(start, stop), group_rows, kind)
    source = TableFiles([str(tmp_path)], kind)
    check_source(source, table(0, 26))
    assert [item.path for item in source.inputs()] == [str(tmp_path / f"{place}.{ending}") for place in range(4)]
    assert all(item.fingerprint.startswith("sha256:") and item.bytes for item in source.inputs())
    source.close()


@given(
    files=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=4),
    shard_rows=st.integers(1, 50),
    block_rows=st.integers(1, 20),
)
def test_every_row_comes_once_and_in_order_however_things_are_cut(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int]], shard_rows: int, block_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    start = 0
    for place, (rows, group_rows) in enumerate(files):
        write(folder / f"{place}.parquet", table(start, start + rows), group_rows, "parquet")
        start += rows
    source = TableFiles([str(folder)], "parquet")
    got = read_all(source, ["row_id", "temperature"], shard_rows, block_rows)
    assert got.equals(table(0, start).select(["row_id", "temperature"]))
    assert [shard.rows for shard in source.plan(shard_rows)] == [
        min(shard_rows, start - first) for first in range(0, start, shard_rows)
    ]


def test_everything_that_is_wrong_is_told_before_any_row_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(0, 3), 3, "parquet")
    write(tmp_path / "b.parquet", table(0, 3).drop_columns(["temperature"]), 3, "parquet")
    as_text = table(0, 3).set_column(2, "row_id", pa.array(["1", "2", "3"]))
    write(tmp_path / "c.parquet", as_text, 3, "parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(SourceInvalid) as caught:
        TableFiles([str(tmp_path), str(tmp_path / "gone.parquet")], "parquet")
    said = str(caught.value)
    assert (
        "b.parquet: its columns are not those of the first file: 'temperature' (none, in the first file double)" in said
    )
    assert "c.parquet: its columns are not those of the first file: 'row_id' (string, in the first file int64)" in said
    assert "d.parquet: cannot be read as parquet" in said
    assert "gone.parquet" in said


def test_an_empty_dataset_has_columns_and_no_shard(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(0, 0), 3, "parquet")
    source = TableFiles([str(tmp_path / "a.parquet")], "parquet")
    assert source.schema().names == ["stream_id", "temperature", "row_id"]
    assert list(source.plan(10)) == []


def test_a_file_that_was_changed_or_removed_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, table(0, 9), 3, "parquet")
    source = TableFiles([str(path)], "parquet")
    (shard,) = source.plan(10)
    write(path, table(0, 8), 3, "parquet")
    with pytest.raises(InputChanged, match=r"a\.parquet has changed"):
        list(source.read(shard, ["row_id"], 4))
    path.unlink()
    with pytest.raises(InputChanged, match="not there"):
        list(source.read(shard, ["row_id"], 4))
    with pytest.raises(InputChanged, match="not there"):
        source.inputs()


def test_a_file_that_breaks_in_the_middle_makes_the_job_wait(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, table(0, 1000), 100, "parquet")
    content = bytearray(path.read_bytes())
    content[50:300] = b"\0" * 250
    path.write_bytes(content)
    source = TableFiles([str(path)], "parquet")
    (shard,) = source.plan(10_000)
    with pytest.raises(StoreUnavailable, match=r"a\.parquet"):
        list(source.read(shard, ["row_id", "stream_id", "temperature"], 50))
