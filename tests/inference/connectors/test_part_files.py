"""A part is hashed while it is written, and nothing of it is seen before it is whole."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from inference.connectors.memory import MemoryStore
from inference.connectors.part_files import ROW_WRITERS, PartFile

ROWS = pa.RecordBatch.from_pydict({"row": [1, 2], "score": [0.5, float("nan")], "text": ["a,b", None]})


@pytest.mark.parametrize("kind", sorted(ROW_WRITERS))
def test_count_and_hash_are_those_of_the_file(kind: str) -> None:
    store = MemoryStore()
    part = PartFile(store, "p", kind, ROWS.schema)
    part.write(ROWS)
    part.write(ROWS)
    assert store.files == {}
    made = part.commit()
    content = store.files["p"]
    assert (made.rows, made.bytes, made.sha256) == (4, len(content), hashlib.sha256(content).hexdigest())
    part.abort()
    assert "p" in store.files


@pytest.mark.parametrize("kind", sorted(ROW_WRITERS))
def test_what_is_aborted_leaves_nothing(kind: str) -> None:
    store = MemoryStore()
    part = PartFile(store, "p", kind, ROWS.schema)
    part.write(ROWS)
    part.abort()
    part.abort()
    assert store.files == {}


def test_what_json_does_not_have_is_null_and_text_stays_on_its_line() -> None:
    store = MemoryStore()
    part = PartFile(store, "p", "jsonl", ROWS.schema)
    part.write(ROWS)
    part.commit()
    assert store.files["p"] == b'{"row":1,"score":0.5,"text":"a,b"}\n{"row":2,"score":null,"text":null}\n'
