"""Windows over lines in bulk are those of the live path, row for row, however a dataset is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.job import Dataset
from inference.job_errors import RowsUnordered
from inference.model import SensorWindow
from inference.pipeline.bulk_windows import BulkWindows
from inference.settings import LinesSettings
from inference.shard import RowFault
from tests.inference.pipeline.line_tables import (
    DATASET,
    LINES,
    SCHEMA,
    bulk_answers,
    live_answers,
    plant_row,
    table_of,
)
from tests.inference.pipeline.plant import FEATURES, WINDOW

TEMPERATURES = st.one_of(st.integers(1495, 1505).map(float), st.none(), st.just(float("nan")), st.just(2000.0))
SPEEDS = st.sampled_from([150.0, 150.0, 151.25, 400.0, 20.0, None])
PRESSURES = st.sampled_from([15.5] * 6 + [99.0, None])


@st.composite
def stories(draw: st.DrawFn, lines: list[str | None], steps: st.SearchStrategy[int]) -> list[dict[str, Any]]:
    """Rows of several lines whose times move by `steps` from their line's last one; most values are good."""
    rows = []
    now_us = dict.fromkeys(lines, 1_000_000)
    rare = draw(st.booleans())
    for _ in range(draw(st.integers(0, 40))):
        line = draw(st.sampled_from(lines))
        now_us[line] += draw(steps)
        values = draw(st.tuples(TEMPERATURES, SPEEDS, PRESSURES)) if rare else (draw(st.floats(1400, 1700)), 150.0, 1.5)
        rows.append(plant_row(line, now_us[line], values[0], belt_speed=values[1], pressure=values[2]))
    return rows


CUTS = st.lists(st.integers(1, 40), max_size=6)
ANY_STEPS = st.sampled_from([1, 1, 1, 2, 0, -1, -3, -9])
TEXT = ["L1", "L2", "a line with a long name", None, "", "x" * 129]


@settings(max_examples=300, deadline=None)
@given(stories(TEXT, ANY_STEPS), CUTS, st.data())
def test_every_row_is_answered_as_the_live_path_answers_it(
    rows: list[dict[str, Any]], cuts: list[int], data: Any
) -> None:
    """Late, repeated and conflicting rows, values that are missing or out of range, rows of no line."""
    shards = set(data.draw(st.lists(st.sampled_from(cuts)))) if cuts else set()
    assert bulk_answers(table_of(rows), cuts, shards=shards) == live_answers(rows)


@settings(max_examples=200, deadline=None)
@given(st.integers(5, 12), st.lists(st.tuples(st.integers(0, 130), st.booleans()), min_size=1, max_size=4), st.data())
def test_a_row_is_too_late_from_the_same_row_on(ordered: int, late: list[tuple[int, bool]], data: Any) -> None:
    """An ordered line about as long as a line that is held, then rows of any time, of which some are bad as well."""
    rows = [plant_row("L1", 10 * number) for number in range(ordered)]
    rows += [plant_row("L1", time_us, 1500.0, pressure=15.5 if good else 99.0) for time_us, good in late]
    cut = data.draw(st.sampled_from([ordered, ordered + 1, 100]))
    assert bulk_answers(table_of(rows), [cut], shards={cut}) == live_answers(rows)


@settings(max_examples=200, deadline=None)
@given(stories(["L1", "L2", "L3"], st.integers(1, 3)), CUTS, st.sampled_from(["live", "refuse"]), st.data())
def test_ordered_rows_are_answered_alike_under_both_rules(
    rows: list[dict[str, Any]], cuts: list[int], unordered: str, data: Any
) -> None:
    shards = set(data.draw(st.lists(st.sampled_from(cuts)))) if cuts else set()
    assert bulk_answers(table_of(rows), cuts, shards=shards, unordered=unordered) == live_answers(rows)


@settings(max_examples=150, deadline=None)
@given(stories(["L1", "L2"], st.sampled_from([1, 0, 0, 2])), CUTS, st.integers(1, 3), st.integers(0, 2))
def test_repeated_rows_are_in_order_whatever_the_window(
    rows: list[dict[str, Any]], cuts: list[int], window_rows: int, extra: int
) -> None:
    window = SensorWindow("rows", window_rows, FEATURES)
    limits = LinesSettings(rows_held_extra=extra)
    table = table_of(rows)
    live = live_answers(rows, window, limits)
    for rule in ("live", "refuse"):
        assert bulk_answers(table, cuts, shards=set(cuts), unordered=rule, window=window, settings=limits) == live


@settings(max_examples=150, deadline=None)
@given(stories(["A", "B", "C", "D", "E"], st.sampled_from([1, 1, 0, -2])), CUTS, st.integers(1, 4))
def test_beyond_the_most_lines_the_one_idle_for_longest_is_forgotten(
    rows: list[dict[str, Any]], cuts: list[int], lines_max: int
) -> None:
    limits = LinesSettings(rows_held_extra=2, lines_max=lines_max)
    assert bulk_answers(table_of(rows), cuts, shards=set(cuts), settings=limits) == live_answers(rows, WINDOW, limits)


@settings(max_examples=100, deadline=None)
@given(stories(["L1", "L2", None], st.just(1)), CUTS)
def test_rows_without_times_come_in_the_order_of_the_dataset(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    table = table_of(rows).drop_columns(["timestamp"])
    assert bulk_answers(table, cuts, shards=set(cuts)) == live_answers(rows, timed=False)


@settings(max_examples=100, deadline=None)
@given(stories(["L1", "L2"], st.integers(1, 3)), CUTS, CUTS)
def test_what_is_carried_does_not_depend_on_the_cuts(
    rows: list[dict[str, Any]], cuts: list[int], others: list[int]
) -> None:
    table = table_of(rows)
    carries = []
    for edges in (cuts, others):
        bulk = BulkWindows(WINDOW, DATASET, LINES, unordered="refuse")
        bulk.begin(b"")
        for start, stop in zip([0, *sorted(edges)], [*sorted(edges), 40], strict=True):
            for block in table.slice(start, stop - start).combine_chunks().to_batches():
                bulk.prepare(block, ())
        carries.append(bulk.carry())
    assert carries[0] == carries[1]


def test_a_long_line_is_answered_alike_at_full_speed() -> None:
    """Thousands of rows of several lines, interleaved at random, with held values here and there."""
    random = np.random.default_rng(7)
    rows, now_us = [], [0] * 5
    for _ in range(3000):
        line = int(random.integers(5))
        now_us[line] += int(random.integers(1, 4))
        temperature = None if random.random() < 0.1 else float(random.uniform(1400, 1700))
        rows.append(plant_row(f"L{line}", now_us[line], temperature))
    assert bulk_answers(table_of(rows), [1000, 1001, 2024], shards={1001}, unordered="refuse") == live_answers(rows)


def test_a_row_that_is_older_than_one_before_it_refuses_the_dataset_by_name() -> None:
    rows = [plant_row("L1", 10), plant_row("L2", 5), plant_row("L1", 20), plant_row("L1", 19)]
    with pytest.raises(RowsUnordered, match=r"Row 3 of the dataset.*'L1'.*--unordered live") as caught:
        bulk_answers(table_of(rows), [2], shards={2}, unordered="refuse")
    assert caught.value.details[0].field == "row 3"


def test_a_bad_row_with_an_old_time_fails_alone() -> None:
    rows = [plant_row("L1", 10), plant_row("L1", 20), plant_row("L1", 0, pressure=99.0)]
    answers = bulk_answers(table_of(rows), [], unordered="refuse")
    assert [answer.reason for answer in answers] == ["", "", "invalid_values"]


def test_rows_that_could_not_be_read_fail_with_the_sources_reason_and_enter_no_line() -> None:
    rows = [plant_row("L1", 10), plant_row(None, None, None), plant_row("L1", 30)]
    bulk = BulkWindows(WINDOW, DATASET, LINES, unordered="refuse")
    bulk.begin(b"")
    (block,) = table_of(rows).to_batches()
    prepared = bulk.prepare(block, [RowFault(1, "malformed_row", "line 2 has 7 fields")])
    assert prepared.faults == [RowFault(1, "malformed_row", "line 2 has 7 fields")]
    assert prepared.good.tolist() == [0, 2]
    assert prepared.real_rows.tolist() == [1, 2]


def test_a_fault_says_what_the_live_path_says() -> None:
    rows = [plant_row("L1", 10), plant_row("", None, None, pressure=99.0)]
    bulk = BulkWindows(WINDOW, DATASET, LINES, unordered="refuse")
    bulk.begin(b"")
    (block,) = table_of(rows).to_batches()
    (fault,) = bulk.prepare(block, ()).faults
    assert fault.sentence == (
        "Invalid values: data.timestamp: given None, accepted a time as in RFC 3339, such as 2025-12-05T10:00:00Z; "
        "without an offset it is UTC; stream_id: given '', accepted text of 1 to 128 characters; data.pressure: given "
        "99.0, accepted a number from -10 to 50 Pa."
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("furnace_temperature", pa.float32()),
        ("furnace_temperature", pa.float16()),
        ("furnace_temperature", pa.int16()),
        ("pressure", pa.uint8()),
        ("timestamp", pa.timestamp("ms")),
        ("timestamp", pa.timestamp("ns", "Europe/Moscow")),
        ("stream_id", pa.dictionary(pa.int8(), pa.string())),
        ("stream_id", pa.large_string()),
        ("stream_id", pa.string_view()),
    ],
)
def test_columns_of_other_types_give_the_same_answers(name: str, kind: pa.DataType) -> None:
    rows = [plant_row(f"L{n % 2}", 1000 * n, 1500.0 + n % 4, pressure=15.0) for n in range(20)]
    schema = SCHEMA.set(SCHEMA.get_field_index(name), pa.field(name, kind))
    assert bulk_answers(table_of(rows, schema), [7], shards={7}) == live_answers(rows)


def test_whole_numbers_name_lines_and_texts_tell_times() -> None:
    rows = [plant_row(str(n % 2), 1000 * n) for n in range(9)]
    table = table_of(rows)
    for name, kind in (("stream_id", pa.int32()), ("timestamp", pa.string())):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(kind))
    assert bulk_answers(table, [4]) == live_answers(rows)


def test_what_is_wrong_with_the_columns_is_told_at_once() -> None:
    bulk = BulkWindows(
        WINDOW, Dataset(("t",), "parquet", {"stream_id": "line", "presure": "p"}), LINES, unordered="refuse"
    )
    schema = pa.schema([("furnace_temperature", pa.string()), ("belt_sped", pa.float32()), ("timestamp", pa.int64())])
    problems = bulk.problems(schema)
    assert [problem.split(":")[0] for problem in problems] == [
        "--column presure=p",
        "column 'furnace_temperature'",
        "column 'belt_speed' is missing",
        "column 'pressure' is missing",
        "column 'timestamp'",
        "column 'line' is missing",
    ]
    assert "'belt_sped' was meant?" in problems[2]


def test_the_columns_are_read_by_their_names_in_the_dataset_and_only_those_that_are_there() -> None:
    names = {"stream_id": "line", "pressure": "p", "row_id": "id"}
    bulk = BulkWindows(WINDOW, Dataset(("t",), "parquet", names), LINES, unordered="refuse")
    table = table_of([plant_row("L1"), plant_row("L1")]).drop_columns(["timestamp"])
    table = table.rename_columns(["furnace_temperature", "belt_speed", "p", "line"])
    assert bulk.problems(table.schema) == []
    assert bulk.columns == ("furnace_temperature", "belt_speed", "p", "line")
    bulk.begin(b"")
    (block,) = table.to_batches()
    assert bulk.prepare(block, ()).real_rows.tolist() == [1, 2]


def test_no_rows_give_no_windows() -> None:
    bulk = BulkWindows(WINDOW, DATASET, LINES, unordered="refuse")
    bulk.begin(b"")
    prepared = bulk.prepare(pa.RecordBatch.from_pylist([], SCHEMA), ())
    assert len(prepared.good) == 0
    assert prepared.tensors(0, 0)["rows"].shape == (0, 4, 3)
