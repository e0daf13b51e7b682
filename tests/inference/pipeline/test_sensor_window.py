"""From named rows, or arrays of them, to the tensor of a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.errors import InvalidValues, RowConflict, UnknownField, UnsupportedMedia
from inference.pipeline.sample import Sample
from inference.pipeline.sensor_window import SensorWindowInput, time_us_of
from inference.settings import LinesSettings
from tests.inference.pipeline.plant import WINDOW, row

GOOD = [1550.0, 150.0, 15.5]


@pytest.fixture
def inputs() -> SensorWindowInput:
    return SensorWindowInput(WINDOW, LinesSettings(rows_held_extra=4))


def sample(fields: dict[str, object], stream_id: str | None = None, arrival_us: int = 1_000_000) -> Sample:
    return Sample(fields, None, stream_id, arrival_us, 0.0)


def test_a_row_without_a_line_fills_its_window(inputs: SensorWindowInput) -> None:
    prepared = inputs.prepare(sample(row(timestamp="2025-12-05T10:00:00Z")))
    assert prepared.tensors["rows"].tolist() == [[GOOD] * 4]
    assert prepared.tensors["rows"].dtype == np.float32
    assert (prepared.real_rows, prepared.input_quality) == (1, 1.0)
    assert len(inputs.lines) == 0


def test_rows_of_a_line_are_judged_together(inputs: SensorWindowInput) -> None:
    inputs.prepare(sample(row(1500, timestamp="2025-12-05T10:00:00Z"), "L1"))
    prepared = inputs.prepare(sample(row(1501, timestamp="2025-12-05T10:00:30Z"), "L1"))
    assert prepared.tensors["rows"][0, :, 0].tolist() == [1500, 1500, 1500, 1501]
    assert prepared.real_rows == 2


def test_a_held_value_lowers_the_quality(inputs: SensorWindowInput) -> None:
    inputs.prepare(sample(row(1500), "L1"))
    prepared = inputs.prepare(sample(row(None), "L1"))
    assert prepared.tensors["rows"][0, :, 0].tolist() == [1500] * 4
    assert prepared.input_quality == pytest.approx(5 / 6)


def test_the_same_moment_in_two_notations_is_one_row(inputs: SensorWindowInput) -> None:
    inputs.prepare(sample(row(1500, timestamp="2025-12-05T10:00:00Z"), "L1"))
    with pytest.raises(RowConflict):
        inputs.prepare(sample(row(1501, timestamp="2025-12-05T13:00:00.000+03:00"), "L1"))


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T00:00:01", 1),  # without an offset: UTC
        ("1970-01-01 01:00:01.5+01:00", 1.5),
        ("1969-12-31T23:59:59Z", -1),
    ],
)
def test_times_are_microseconds_since_1970(text: str, second: float) -> None:
    assert time_us_of(text) == second * 1e6


@pytest.mark.parametrize("given", ["yesterday", "2025-12-05", "2025-13-05T10:00:00Z", "", 1764928800, None, True, []])
def test_other_times_are_named(inputs: SensorWindowInput, given: object) -> None:
    with pytest.raises(InvalidValues) as caught:
        inputs.prepare(sample(row(timestamp=given)))
    assert caught.value.details[0].field == "data.timestamp"
    assert "RFC 3339" in caught.value.details[0].accepted


def test_every_fault_of_a_sample_is_named_at_once(inputs: SensorWindowInput) -> None:
    with pytest.raises(InvalidValues) as caught:
        inputs.prepare(sample(row("hot", pressure=99, timestamp="noon"), "x" * 129))
    assert [fault.field for fault in caught.value.details] == [
        "data.timestamp",
        "stream_id",
        "data.furnace_temperature",
        "data.pressure",
    ]
    assert len(inputs.lines) == 0


def test_an_image_is_no_row(inputs: SensorWindowInput) -> None:
    with pytest.raises(UnsupportedMedia):
        inputs.prepare(Sample({}, b"\xff\xd8\xff"))


def test_an_array_of_a_whole_window_is_taken_without_a_copy(inputs: SensorWindowInput) -> None:
    window = np.array([GOOD] * 4, np.float32)
    prepared = inputs.prepare_one(window)
    assert np.shares_memory(prepared.tensors["rows"], window)
    assert prepared.real_rows == 4


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_arrays_of_other_numbers_become_float32(inputs: SensorWindowInput, dtype: type) -> None:
    prepared = inputs.prepare_one(np.array([[1550, 150, 15]] * 4, dtype))
    assert prepared.tensors["rows"].dtype == np.float32


def test_a_short_array_is_filled_and_a_long_one_is_cut(inputs: SensorWindowInput) -> None:
    rows = np.array([[1500 + i, 150, 15] for i in range(6)], np.float32)
    short, long = inputs.prepare_one(rows[:2]), inputs.prepare_one(rows)
    assert short.tensors["rows"][0, :, 0].tolist() == [1500, 1500, 1500, 1501]
    assert long.tensors["rows"][0, :, 0].tolist() == [1502, 1503, 1504, 1505]
    assert (short.real_rows, long.real_rows) == (2, 4)


def test_named_rows_in_process_give_what_a_line_gives(inputs: SensorWindowInput) -> None:
    rows = [row(1500.0), row(None), row(1502.0), row(np.float32(1503.0)), row(1504)]
    for fields in rows:
        served = inputs.prepare(sample(dict(fields, furnace_temperature=_plain(fields["furnace_temperature"])), "L1"))
    here = inputs.prepare_one(rows)
    assert (here.tensors["rows"] == served.tensors["rows"]).all()
    assert (here.real_rows, here.input_quality) == (served.real_rows, served.input_quality)
    assert len(inputs.lines) == 1  # the one of the samples


def _plain(value: Any) -> object:
    return value.item() if isinstance(value, np.generic) else value


def test_rows_with_times_are_put_in_their_order(inputs: SensorWindowInput) -> None:
    rows = [row(1502, timestamp="2025-12-05T10:01:00Z"), row(1501, timestamp="2025-12-05T10:00:00Z")]
    assert inputs.prepare_one(rows).tensors["rows"][0, :, 0].tolist() == [1501, 1501, 1501, 1502]


def test_a_fault_in_a_list_of_rows_is_named_by_its_place(inputs: SensorWindowInput) -> None:
    with pytest.raises(InvalidValues) as caught:
        inputs.prepare_one([row(), row(pressure=None)])
    assert caught.value.details[0].field == "rows[1].pressure"
    with pytest.raises(UnknownField):
        inputs.prepare_one([row(), {**row(), "glass": 1}])


@pytest.mark.parametrize(
    "given", [[], "rows", 5, [1550.0, 150.0], np.zeros((4, 2), np.float32), np.zeros((0, 3)), np.array([["a"]])]
)
def test_what_is_no_window_is_refused(inputs: SensorWindowInput, given: object) -> None:
    with pytest.raises(InvalidValues):
        inputs.prepare_one(given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1700.5])
def test_a_value_out_of_range_in_an_array_is_named_by_its_place(inputs: SensorWindowInput, value: float) -> None:
    windows = np.array([[GOOD] * 4] * 3, np.float32)
    assert inputs.prepare_many(windows)["rows"] is windows
    windows[1, 2, 0] = value
    with pytest.raises(InvalidValues) as caught:
        inputs.prepare_many(windows)
    assert [fault.field for fault in caught.value.details] == ["input[1][2].furnace_temperature"]


@pytest.mark.parametrize("given", [np.zeros((3, 4), np.float32), np.zeros((1, 5, 3), np.float32), [[1.0]], None])
def test_many_windows_have_one_shape(inputs: SensorWindowInput, given: object) -> None:
    with pytest.raises(InvalidValues):
        inputs.prepare_many(given)


def test_a_gap_in_a_line_is_logged_once_with_what_to_do(
    inputs: SensorWindowInput, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = [*range(12), 30, 31, 59]
    for number, second in enumerate(seconds):
        inputs.prepare(sample(row(1500 + number, timestamp=f"2025-12-05T10:00:{second:02}Z"), "L1"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "line 'L1': 19 s lie between two of its rows, where 1 s are usual" in record.getMessage()
    assert "X-Stream-Id" in record.getMessage()
    assert inputs.lines.gaps == 2
