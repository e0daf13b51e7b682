"""Tables of rows of lines, and what the live path says of each row: the oracle of the bulk form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from inference.errors import CallerError
from inference.job import Dataset
from inference.model import SensorWindow
from inference.pipeline.bulk_windows import BulkWindows, WindowRows
from inference.pipeline.sample import Sample
from inference.pipeline.sensor_window import SensorWindowInput
from inference.pipeline.window import as_time
from inference.settings import LinesSettings
from tests.inference.pipeline.plant import NAMES, WINDOW

SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in NAMES),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("stream_id", pa.string()),
    ]
)
DATASET = Dataset(("rows.parquet",), "parquet")
LINES = LinesSettings(rows_held_extra=3, lines_max=1000)


@dataclass
class Answer:
    """What becomes of one row: a window with what is known of it, or the reason why there is none."""

    window: list[Any] | None
    real_rows: int = 0
    quality: float = 0.0
    reason: str = ""


def plant_row(
    line: str | None = "L1", time_us: int | None = 0, temperature: float | None = 1500.0, **more: Any
) -> dict[str, Any]:
    """A row of the tests' plant, by default a good one."""
    row = {"furnace_temperature": temperature, "belt_speed": 150.0, "pressure": 15.5}
    return {**row, "timestamp": time_us, "stream_id": line, **more}


def table_of(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """The rows as a table; times are microseconds."""
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        kind = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        columns.append(pa.array(values, kind, from_pandas=False).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def live_answers(
    rows: list[dict[str, Any]], window: SensorWindow = WINDOW, settings: LinesSettings = LINES, *, timed: bool = True
) -> list[Answer]:
    """What the live path answers to these rows, one after the other."""
    live = SensorWindowInput(window, settings)
    answers = []
    for number, row in enumerate(rows):
        fields: dict[str, object] = {feature.name: row.get(feature.name) for feature in window.features}
        if timed:
            time_us = row["timestamp"]
            fields["timestamp"] = None if time_us is None else as_time(time_us)
        try:
            prepared = live.prepare(Sample(fields, None, row["stream_id"], number, 0.0))
        except CallerError as error:
            answers.append(Answer(None, reason=error.reason))
        else:
            tensor = prepared.tensors[window.input]
            answers.append(Answer(tensor[0].tolist(), prepared.real_rows, prepared.input_quality))
    return answers


def answers_of(prepared: WindowRows, count: int) -> list[Answer]:
    """A block's answers by row."""
    answers: list[Answer | None] = [None] * count
    for fault in prepared.faults:
        assert answers[fault.row] is None
        answers[fault.row] = Answer(None, reason=fault.reason)
    windows = prepared.tensors(0, len(prepared.good))["rows"]
    assert windows.dtype == np.float32
    for place, row in enumerate(prepared.good.tolist()):
        quality = 1.0 if prepared.input_quality is None else float(prepared.input_quality[place])
        assert answers[row] is None
        answers[row] = Answer(windows[place].tolist(), int(prepared.real_rows[place]), quality)
    assert None not in answers
    return [answer for answer in answers if answer is not None]


def bulk_answers(
    table: pa.Table,
    cuts: list[int],
    *,
    shards: set[int] = frozenset(),
    unordered: str = "live",
    window: SensorWindow = WINDOW,
    settings: LinesSettings = LINES,
) -> list[Answer]:
    """What the bulk form answers to blocks cut before these rows; before those in `shards` a new worker begins."""
    bulk = BulkWindows(window, DATASET, settings, unordered=unordered)
    assert bulk.problems(table.schema) == []
    bulk.begin(b"")
    answers = []
    edges = sorted({0, table.num_rows, *(cut for cut in cuts if cut < table.num_rows)})
    for start, stop in pairwise(edges):
        if start in shards:
            carry = bulk.carry()
            bulk = BulkWindows(window, DATASET, settings, unordered=unordered)
            bulk.problems(table.schema)
            bulk.begin(carry)
        (block,) = table.slice(start, stop - start).combine_chunks().to_batches()
        answers += answers_of(bulk.prepare(block.select(list(bulk.columns)), ()), stop - start)
    return answers
