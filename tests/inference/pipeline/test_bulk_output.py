"""Columns of predictions hold the numbers that the live path shows, and nulls for rows that failed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InvalidValues
from inference.model import Output
from inference.pipeline.bulk_output import BulkBinary, BulkClasses, rounded
from inference.pipeline.postprocess import BinaryOutput, ClassesOutput, shown
from inference.pipeline.sample import Prepared
from inference.protocols.inference_json import DefectProbability, DefectType
from inference.shard import CONFIDENCE_BINS, RowFault
from tests.inference.pipeline.plant import OUTPUT
from tests.inference.pipeline.prepared_rows import MadeUp, all_good

CLASSES = Output("p", "classes", ("none", "bubble", "crack"))
KEPT = pa.schema([("row_id", pa.string()), ("timestamp", pa.timestamp("us", "UTC"))])
SHARES = st.floats(0, 1, width=32)


def kept_rows(count: int) -> pa.RecordBatch:
    ids = pa.array([f"r{number}" for number in range(count)])
    return pa.RecordBatch.from_arrays([ids, pa.array(range(count), pa.int64()).cast(KEPT.field(1).type)], schema=KEPT)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SHARES, st.integers(1, 6), st.floats(0, 1)), min_size=1, max_size=20))
def test_a_probability_has_the_live_paths_confidence_and_decision(rows: list[tuple[float, int, float]]) -> None:
    probabilities = np.array([[row[0]] for row in rows], np.float32)
    real_rows = np.array([row[1] for row in rows], np.int16)
    quality = np.array([round(row[2], 6) for row in rows])
    prepared = MadeUp(np.arange(len(rows)), (), real_rows, quality)
    batch, _ = BulkBinary(OUTPUT).rows(kept_rows(len(rows)), 0, prepared, {OUTPUT.name: probabilities}, ())
    live = BinaryOutput(OUTPUT)
    for place, row in enumerate(batch.to_pylist()):
        sample = Prepared({}, int(real_rows[place]), float(quality[place]))
        expected = shown(live.result({OUTPUT.name: probabilities[place : place + 1]}, sample, 0.0))
        assert isinstance(expected, DefectProbability)
        assert np.float32(row["defect_probability"]) == np.float32(expected.defect_probability)
        assert row["confidence"] == expected.confidence
        assert row["decision"] == expected.decision
        assert (row["input_quality"], row["real_rows"]) == (expected.input_quality, expected.real_rows)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=20))
def test_classes_have_the_live_paths_name_and_confidence(rows: list[tuple[float, float, float]]) -> None:
    probabilities = np.array(rows, np.float32)
    batch, tally = BulkClasses(CLASSES).rows(kept_rows(len(rows)), 7, all_good(len(rows)), {"p": probabilities}, ())
    for place, row in enumerate(batch.to_pylist()):
        expected = shown(ClassesOutput(CLASSES).result({"p": probabilities[place : place + 1]}, Prepared({}), 0.0))
        assert isinstance(expected, DefectType)
        assert (row["defect_type"], row["confidence"]) == (expected.defect_type, expected.confidence)
        for label, share in expected.probabilities.items():
            assert np.float32(row[f"probability_{label}"]) == np.float32(share)
        assert row["row"] == 7 + place
    assert sum(tally.labels.values()) == sum(tally.confidence) == len(rows)


@pytest.mark.parametrize("output", [BulkBinary(OUTPUT), BulkClasses(CLASSES)])
def test_rows_that_failed_before_or_in_the_model_have_nulls_and_their_reason(output: BulkBinary | BulkClasses) -> None:
    prepared = MadeUp(np.array([0, 2, 3]), [RowFault(1, "invalid_values", "bad")], np.array([1, 2, 3], np.int16))
    given_outputs = {
        OUTPUT.name: np.array([0.1, np.nan, 0.9], np.float32),
        "p": np.array([[1, 0, 0], [np.nan] * 3, [0, 0, 1]], np.float32),
    }
    batch, tally = output.rows(kept_rows(4), 100, prepared, given_outputs, [RowFault(2, "non_finite_output", "NaN")])
    assert batch.schema == output.schema(KEPT)
    rows = batch.to_pylist()
    assert [row["error"] for row in rows] == [None, "invalid_values", "non_finite_output", None]
    assert [row["row"] for row in rows] == [100, 101, 102, 103]
    assert [row["row_id"] for row in rows] == ["r0", "r1", "r2", "r3"]
    for row in (rows[1], rows[2]):
        assert {row[name] for name in batch.schema.names if name not in ("row", "row_id", "timestamp", "error")} == {
            None
        }
    assert rows[3]["confidence"] is not None
    assert (tally.rows_in, tally.rows_failed) == (4, 2)
    assert tally.failed_by_reason == {"invalid_values": 1, "non_finite_output": 1}
    assert sum(tally.labels.values()) == sum(tally.confidence) == 2
    assert len(tally.confidence) == CONFIDENCE_BINS


def test_a_block_of_only_bad_rows_has_only_nulls() -> None:
    prepared = MadeUp(np.array([], np.int64), [RowFault(row, "invalid_values", "") for row in range(3)])
    outputs = {OUTPUT.name: np.zeros((0, 1), np.float32)}
    batch, tally = BulkBinary(OUTPUT).rows(kept_rows(3), 0, prepared, outputs, ())
    assert batch.column("confidence").null_count == 3
    assert tally.rows_failed == 3


def test_a_row_that_is_lost_would_be_noticed() -> None:
    prepared = MadeUp(np.array([0, 2]))
    with pytest.raises(AssertionError, match="a row has a prediction or one fault"):
        BulkBinary(OUTPUT).rows(kept_rows(3), 0, prepared, {OUTPUT.name: np.zeros(2, np.float32)}, ())


def test_a_kept_column_may_not_have_the_name_of_another() -> None:
    kept = pa.schema([("confidence", pa.float32()), ("a", pa.int8()), ("a", pa.int8())])
    with pytest.raises(InvalidValues, match=r"keep: given 'confidence'.*keep: given 'a'"):
        BulkBinary(OUTPUT).schema(kept)


@given(st.lists(st.one_of(st.floats(0, 1), st.integers(0, 2_000_000).map(lambda n: n / 2e6))))
def test_numbers_are_rounded_as_python_rounds_them(values: list[float]) -> None:
    assert rounded(np.array(values)).tolist() == [round(value, 6) for value in values]
