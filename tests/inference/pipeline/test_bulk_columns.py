"""Columns as numpy arrays, whatever arrow holds them as."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.fault import Fault
from inference.pipeline import bulk_columns
from inference.pipeline.sensor_window import time_us_of

MOMENTS = [
    "2025-12-05T10:00:00Z",
    "2025-12-05 10:00:00.5+03:00",
    "2025-12-05T10:00:00",
    "2025-12-05T10:00:00.123456-00:30",
    "2025-12-05t10:00:00z",
    "2025-02-30T10:00:00Z",
    "2025-12-05",
    "2025-12-05T24:00:00Z",
    "2025-12-05T10:00:00.1234567Z",
    "2025-12-05T10:00:00+24:00",
    "9999-12-31T23:59:59Z",
    "1066-10-14T09:00:00Z",
    "yesterday",
    "",
]


@given(st.lists(st.one_of(st.sampled_from(MOMENTS), st.none(), st.datetimes().map(str), st.text(max_size=12))))
def test_texts_are_the_times_that_the_live_path_reads(texts: list[str | None]) -> None:
    found, known = bulk_columns.times_us(pa.array(texts, pa.string()))
    for place, text in enumerate(texts):
        expected = time_us_of(text)
        assert known[place] == (not isinstance(expected, Fault))
        if known[place]:
            assert found[place] == expected


@pytest.mark.parametrize(
    ("kind", "scale"), [(pa.timestamp("s"), 10**6), (pa.timestamp("ms", "UTC"), 1000), (pa.timestamp("us"), 1)]
)
def test_moments_are_microseconds_of_utc(kind: pa.DataType, scale: int) -> None:
    found, known = bulk_columns.times_us(pa.array([1, None, 3], pa.int64()).cast(kind))
    assert (found[known] // scale).tolist() == [1, 3]
    assert known.tolist() == [True, False, True]


def test_missing_numbers_are_nan_in_every_type() -> None:
    for kind in (pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64()):
        given_numbers = bulk_columns.numbers(pa.array([1, None, 3], kind))
        assert given_numbers.dtype == np.float64
        assert np.isnan(given_numbers).tolist() == [False, True, False]
        assert given_numbers[[0, 2]].tolist() == [1.0, 3.0]
    assert np.isnan(bulk_columns.numbers(pa.nulls(2))).all()


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", None, "a", "b"]),
        pa.array(["b", None, "a", "b"], pa.large_string()),
        pa.array(["b", None, "a", "b"], pa.string_view()),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([3, None, 2, 1], pa.int8()), pa.array(["unused", "b", "a", "b"])),
    ],
)
def test_names_are_told_apart_once_each(column: pa.Array) -> None:
    names, places = bulk_columns.names(column)
    assert [names[place] if place >= 0 else None for place in places] == ["b", None, "a", "b"]
    assert sorted(names) == ["a", "b"]
    sliced_names, sliced = bulk_columns.names(column.slice(2, 1))
    assert (sliced_names, sliced.tolist()) == (["a"], [0])


def test_a_null_in_the_dictionary_is_no_name() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array([None, "a"]))
    names, places = bulk_columns.names(column)
    assert (names, places.tolist()) == (["a"], [-1, 0])


def test_a_missing_column_is_told_with_what_there_is() -> None:
    sentence = bulk_columns.missing("pressure", "pressure", pa.schema([("presure", pa.float32())]))
    assert "given one of presure" in sentence
    assert "--column pressure=NAME" in sentence
    assert "'presure' was meant?" in sentence


@pytest.mark.parametrize(
    ("kind", "number", "text", "time", "name", "content"),
    [
        (pa.float32(), True, False, False, False, False),
        (pa.int8(), True, False, False, True, False),
        (pa.bool_(), False, False, False, False, False),
        (pa.decimal128(9, 2), False, False, False, False, False),
        (pa.string(), False, True, True, True, False),
        (pa.dictionary(pa.int8(), pa.large_string()), False, True, True, True, False),
        (pa.timestamp("ns", "UTC"), False, False, True, False, False),
        (pa.date32(), False, False, False, False, False),
        (pa.binary(), False, False, False, False, True),
        (pa.null(), True, False, True, True, False),
    ],
)
def test_what_a_type_can_hold(
    kind: pa.DataType, *, number: bool, text: bool, time: bool, name: bool, content: bool
) -> None:
    assert bulk_columns.is_number(kind) is number
    assert bulk_columns.is_text(kind) is text
    assert bulk_columns.is_time(kind) is time
    assert bulk_columns.is_name(kind) is name
    assert bulk_columns.is_bytes(kind) is content
