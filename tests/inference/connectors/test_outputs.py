"""Outputs are made whole, once, in shard order, whatever came in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from inference.connectors.folder_store import FolderStore
from inference.connectors.memory import MemoryStore
from inference.connectors.outputs import FileSink
from inference.connectors.store import Store
from inference.job import Output, OutputFormat
from inference.job_errors import OutputInvalid, StoreUnavailable
from inference.shard import Part
from tests.inference.connectors.contracts import check_sink

FORMATS = get_args(OutputFormat)
ROWS = pa.table(
    {
        "row": pa.array(range(10), pa.int64()),
        "probability": pa.array([None if n == 3 else n / 10 for n in range(10)], pa.float32()),
        "decision": pa.array([f'say "{n}", please\n' for n in range(10)], pa.string()),
    }
)
ERRORS = pa.RecordBatch.from_pylist([{"row": 3, "reason": "missing", "error": "no value"}])


def sink_of(store: Store, form: OutputFormat, *, single: bool) -> FileSink:
    name = f"scores.{form}" if single else "scores"
    return FileSink(Output(name, form, single), store, name, f"{name}.job/")


def read(folder: Path, form: OutputFormat) -> pa.Table:
    if form == "parquet":
        return pq.read_table(folder)
    files = sorted(folder.glob("*")) if folder.is_dir() else [folder]
    if form == "csv":
        options = pa_csv.ParseOptions(newlines_in_values=True)
        names = None if folder.is_file() else ROWS.schema.names
        reads = pa_csv.ReadOptions(column_names=names)
        return pa.concat_tables([pa_csv.read_csv(file, reads, options) for file in files])
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return pa.Table.from_pylist(lines, ROWS.schema)


@pytest.mark.parametrize("single", [True, False], ids=["file", "folder"])
@pytest.mark.parametrize("form", FORMATS)
def test_they_keep_the_contract_of_sinks_and_hold_every_row_in_order(
    tmp_path: Path, form: OutputFormat, single: bool
) -> None:
    sink = sink_of(FolderStore(tmp_path), form, single=single)
    check_sink(sink, ROWS)
    output = tmp_path / (f"scores.{form}" if single else "scores")
    got = read(output, form)
    assert got["row"].to_pylist() == list(range(10))
    assert got["decision"].to_pylist() == ROWS["decision"].to_pylist()
    assert got["probability"].null_count == 1
    sink.discard()
    assert FolderStore(tmp_path).names(f"{output.name}.job/") == [f"{output.name}.job/manifest.json"]


def parts_of(sink: FileSink, attempt: int = 1) -> list[Part]:
    parts = []
    for number in range(3):
        writer = sink.begin(number, attempt, ROWS.schema)
        for batch in ROWS.slice(number * 4, 4).to_batches():
            writer.write(batch)
        parts.append(writer.commit())
    return parts


def test_the_same_rows_give_the_same_bytes_whichever_attempt_wrote_them() -> None:
    made = []
    for attempt in (1, 7):
        store = MemoryStore()
        sink = sink_of(store, "parquet", single=True)
        sink.finish(parts_of(sink, attempt), [], ROWS.schema)
        made.append(store.files["scores.parquet"])
    assert made[0] == made[1]


class Dies(Exception):
    """In place of a crash."""


@pytest.mark.parametrize("single", [True, False], ids=["file", "folder"])
def test_finishing_goes_on_wherever_it_was_stopped(single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MemoryStore()
    sink = sink_of(whole, "parquet", single=single)
    sink.finish(parts_of(sink), [], ROWS.schema)
    stops = 0
    for allowed in range(20):
        store = MemoryStore()
        sink = sink_of(store, "parquet", single=single)
        parts = parts_of(sink)
        left = [allowed]

        def count(store: MemoryStore = store, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Dies

        move, create = store.move, store.create
        monkeypatch.setattr(store, "move", lambda a, b, move=move, count=count: (count(), move(a, b)))
        monkeypatch.setattr(store, "create", lambda a, create=create, count=count: (count(), create(a))[1])
        try:
            sink.finish(parts, [], ROWS.schema)
        except Dies:
            stops += 1
            monkeypatch.undo()
            sink.finish(parts, [], ROWS.schema)
        monkeypatch.undo()
        sink.discard()
        assert {k: v for k, v in store.files.items() if "manifest" not in k} == {
            k: v for k, v in whole.files.items() if "manifest" not in k and "/parts/" not in k
        }
    assert stops == (2 if single else 4)


def test_dead_letters_lie_beside_the_output() -> None:
    for single, name in ((True, "scores.jsonl.errors.jsonl"), (False, "scores/_errors.jsonl")):
        store = MemoryStore()
        sink = sink_of(store, "jsonl", single=single)
        writer = sink.begin_errors(0, 1)
        writer.write(ERRORS)
        sink.finish(parts_of(sink), [writer.commit()], ROWS.schema)
        assert json.loads(store.files[name]) == {"row": 3, "reason": "missing", "error": "no value"}


def test_an_output_that_was_damaged_afterwards_is_made_again() -> None:
    store = MemoryStore()
    sink = sink_of(store, "parquet", single=True)
    parts = parts_of(sink)
    sink.finish(parts, [], ROWS.schema)
    good = store.files["scores.parquet"]
    store.files["scores.parquet"] = good[:-1]
    sink.finish(parts, [], ROWS.schema)
    assert store.files["scores.parquet"] == good


def test_no_rows_give_an_empty_output_of_the_right_columns() -> None:
    for form in FORMATS:
        store = MemoryStore()
        sink_of(store, form, single=True).finish([], [], ROWS.schema)
        if form == "parquet":
            assert pq.read_table(pa.BufferReader(store.files["scores.parquet"])).schema.names == ROWS.schema.names
        elif form == "csv":
            assert store.files["scores.csv"] == b'"row","probability","decision"\n'
        else:
            assert store.files["scores.jsonl"] == b""


def test_csv_refuses_columns_that_it_cannot_hold() -> None:
    schema = pa.schema([("row", pa.int64()), ("scores", pa.list_(pa.float32()))])
    with pytest.raises(OutputInvalid, match="CSV cannot hold scores"):
        sink_of(MemoryStore(), "csv", single=True).begin(0, 1, schema)


def test_a_part_that_is_gone_is_told() -> None:
    store = MemoryStore()
    sink = sink_of(store, "parquet", single=False)
    parts = parts_of(sink)
    store.delete(parts[1].name)
    with pytest.raises(StoreUnavailable, match=r"000001\.1\.parquet"):
        sink.finish(parts, [], ROWS.schema)
