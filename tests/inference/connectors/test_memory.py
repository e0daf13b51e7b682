"""The in-memory twins keep the contracts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from inference.connectors.memory import MemorySink, MemorySource, MemoryStore
from inference.job_errors import InputChanged
from tests.inference.connectors.contracts import check_sink, check_source, check_store

ROWS = pa.table({"row_id": pa.array(range(10)), "pressure": pa.array([float(n) for n in range(10)])})


def test_a_source() -> None:
    check_source(MemorySource(ROWS), ROWS)


def test_a_source_of_no_rows_has_no_shards() -> None:
    assert list(MemorySource(ROWS.slice(0, 0)).plan(4)) == []


def test_a_source_that_changed_after_the_plan_is_noticed() -> None:
    source = MemorySource(ROWS)
    shards = list(source.plan(4))
    source.change(ROWS.slice(1))
    with pytest.raises(InputChanged):
        list(source.read(shards[0], ["row_id"], 4))


def test_a_sink() -> None:
    sink = MemorySink()
    check_sink(sink, ROWS)
    assert sink.rows is not None
    assert sink.rows.equals(ROWS)
    sink.discard()
    assert sink.parts == {}


def test_dead_letters_come_out_beside_the_rows() -> None:
    sink = MemorySink()
    writer = sink.begin_errors(0, 1)
    letter = pa.RecordBatch.from_pylist([{"row": 3, "reason": "invalid_image", "error": "no image", "row_id": 3}])
    writer.write(letter)
    sink.finish([], [writer.commit()], ROWS.schema)
    assert sink.errors is not None
    assert sink.errors.to_pylist() == letter.to_pylist()


def test_a_store() -> None:
    check_store(MemoryStore())
