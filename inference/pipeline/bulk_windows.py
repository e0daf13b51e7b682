"""From blocks of a table to the windows of a model that judges rows of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from inference.errors import InferenceError
from inference.fault import one_of
from inference.job import Dataset
from inference.model import Feature, SensorWindow
from inference.pipeline import bulk_columns
from inference.pipeline.bulk_line_rows import LineRows, Windows
from inference.pipeline.bulk_line_states import LineStates
from inference.pipeline.bulk_lines import BulkLines
from inference.pipeline.features import TIMESTAMP, Reading
from inference.pipeline.sample import Sample
from inference.pipeline.sensor_window import STREAM_ID_CHARS_MAX, SensorWindowInput
from inference.settings import LinesSettings
from inference.shard import RowFault
from inference.tensor import Array, Tensors

STREAM_ID = "stream_id"
ROW_ID = "row_id"  # not read, and may be kept under another name


@dataclass(slots=True, frozen=True, eq=False)
class WindowRows:
    """Rows of a block with their windows. See PreparedRows."""

    good: Array
    faults: Sequence[RowFault]
    real_rows: Array
    input_quality: Array | None
    input: str
    stretches: Array  # a view of all windows there are
    begins: Array  # for each of `good`, the place of its own one

    def tensors(self, start: int, stop: int) -> Tensors:
        """{input: FP32 [stop - start, rows, features]}; see PreparedRows."""
        return {self.input: self.stretches[self.begins[start:stop]]}


@dataclass(slots=True, eq=False)
class _Rows:
    """A block's columns, n rows.

    `bad` BOOL [n]: rows that cannot enter a line; `gaps` BOOL [n, features] or None; `lines` INT64 [n], -1 for a row
    of no line; `named` BOOL [n]: it has a name that a line may have; `times_us`, `timed` or None without times.
    """

    values: Array
    gaps: Array | None
    bad: Array
    names: list[str]
    lines: Array
    named: Array
    times_us: Array | None
    timed: Array


class BulkWindows:
    """Windows over lines; see BulkInput. Rows without a `stream_id` are judged alone, as the live path does.

    A dataset without the column `timestamp` has its rows in the order of their time.
    """

    def __init__(self, window: SensorWindow, dataset: Dataset, settings: LinesSettings, *, unordered: str) -> None:
        assert unordered in ("refuse", "live"), "no other rule is known"
        self._window = window
        self._columns = dataset.columns
        self._names = [dataset.columns.get(feature.name, feature.name) for feature in window.features]
        self._time_column = dataset.columns.get(TIMESTAMP, TIMESTAMP)
        self._line_column = dataset.columns.get(STREAM_ID, STREAM_ID)
        self._present: tuple[str, ...] = (*self._names, self._time_column, self._line_column)
        self._refuse_unordered = unordered == "refuse"
        rows_held = window.rows + settings.rows_held_extra
        if self._refuse_unordered:
            # Rows come in order, but for repeated ones; one of a window of 1 row may hold a value of the row before.
            rows_held = min(rows_held, max(window.rows, 2))
        features = [feature.name for feature in window.features]
        self._live = SensorWindowInput(window, settings)
        states = LineStates(features, window.rows, rows_held, settings.lines_max)
        self._lines = BulkLines(states, refuse_unordered=self._refuse_unordered)

    @property
    def columns(self) -> tuple[str, ...]:
        """See BulkInput."""
        return self._present

    def problems(self, schema: pa.Schema) -> list[str]:
        """See BulkInput."""
        known = [*(feature.name for feature in self._window.features), TIMESTAMP, STREAM_ID, ROW_ID]
        problems = bulk_columns.unknown_columns(self._columns, known)
        present = []
        wanted = [
            *((feature.name, bulk_columns.is_number, bulk_columns.NUMBER_TYPES) for feature in self._window.features),
            (TIMESTAMP, bulk_columns.is_time, bulk_columns.TIME_TYPES),
            (STREAM_ID, bulk_columns.is_name, bulk_columns.NAME_TYPES),
        ]
        for model_name, fits, accepted in wanted:
            name = self._columns.get(model_name, model_name)
            if name not in schema.names:
                if model_name not in (TIMESTAMP, STREAM_ID) or model_name in self._columns:
                    problems.append(bulk_columns.missing(name, model_name, schema))
                continue
            present.append(name)
            if schema.names.count(name) > 1:
                problems.append(f"column {name!r}: given {schema.names.count(name)} of them, accepted {one_of([name])}")
            elif not fits(schema.field(name).type):
                problems.append(bulk_columns.wrong_type(name, schema.field(name).type, accepted))
        self._present = tuple(present)
        return problems

    def begin(self, carry: bytes) -> None:
        """See BulkInput."""
        self._lines.states.decode(carry)

    def carry(self) -> bytes:
        """See BulkInput."""
        return self._lines.states.encode()

    def prepare(self, columns: pa.RecordBatch, faults: Sequence[RowFault]) -> WindowRows:
        """See BulkInput. Raises RowsUnordered."""
        rows = self._read(columns, faults)
        unread = np.zeros(columns.num_rows, np.bool_)
        unread[[fault.row for fault in faults]] = True
        clean = ~rows.bad & ~unread
        alone = np.flatnonzero(clean & ~rows.named)
        if rows.gaps is not None:
            alone = alone[~rows.gaps[alone].any(axis=1)]
        in_line = rows.named & clean
        faulty = np.zeros(columns.num_rows, np.bool_)
        if not self._refuse_unordered and rows.times_us is not None:
            faulty = rows.named & rows.bad & rows.timed & ~unread
        lines = np.where(in_line | faulty, rows.lines, -1)

        def reading(row: int) -> Reading:
            return self._reading(columns, row)

        block = LineRows(rows.names, lines, faulty, rows.times_us, rows.values, rows.gaps, reading)
        windows = self._lines.windows(block, alone)
        for row in np.flatnonzero(~windows.accepted & ~unread).tolist():
            if row not in windows.refused:
                windows.refused[row] = self._refusal(columns, row)
        return self._prepared(windows, faults)

    def _prepared(self, windows: Windows, faults: Sequence[RowFault]) -> WindowRows:
        good = np.flatnonzero(windows.accepted)
        refused = [RowFault(row, error.reason, str(error)) for row, error in windows.refused.items()]
        return WindowRows(
            good,
            sorted([*faults, *refused], key=lambda fault: fault.row) if refused else list(faults),
            windows.real_rows[good],
            None if windows.quality is None else windows.quality[good],
            self._window.input,
            windows.all_stretches(self._window.rows),
            windows.ends[good] - (self._window.rows - 1),
        )

    def _read(self, columns: pa.RecordBatch, faults: Sequence[RowFault]) -> _Rows:
        count, features = columns.num_rows, self._window.features
        values = np.empty((count, len(features)), np.float32)
        gaps: Array | None = None
        bad = np.zeros(count, np.bool_)
        for place, (feature, name) in enumerate(zip(features, self._names, strict=True)):
            given = bulk_columns.numbers(columns.column(name))
            with np.errstate(over="ignore", invalid="ignore"):
                values[:, place] = given
            fits = (given >= feature.valid_min) & (given <= feature.valid_max)
            if fits.all():
                continue
            gap = _held(feature, given, fits)
            bad |= ~fits & ~gap
            if gap.any():
                gaps = np.zeros(values.shape, np.bool_) if gaps is None else gaps
                gaps[:, place] = gap
        lines, named, names = self._named(columns, bad)
        timed = np.ones(count, np.bool_)
        times_us: Array | None = None
        if self._time_column in self._present and self._time_column in columns.schema.names:
            times_us, timed = bulk_columns.times_us(columns.column(self._time_column))
            bad |= ~timed
        return _Rows(values, gaps, bad, names, lines, named, times_us, timed)

    def _named(self, columns: pa.RecordBatch, bad: Array) -> tuple[Array, Array, list[str]]:
        """Lines, whether they are named, and names; a name that is too long or empty is `bad`."""
        if self._line_column not in columns.schema.names:
            return np.full(len(bad), -1, np.int64), np.zeros(len(bad), np.bool_), []
        names, lines = bulk_columns.names(columns.column(self._line_column))
        wrong = [place for place, name in enumerate(names) if not 0 < len(name) <= STREAM_ID_CHARS_MAX]
        named = lines >= 0
        if wrong:
            misnamed = np.isin(lines, wrong)
            bad |= misnamed
            named &= ~misnamed
        return lines, named, names

    def _reading(self, columns: pa.RecordBatch, row: int, *, whole: bool = False) -> Reading:
        """A row as the live path reads it; `whole`: with its time and the name of its line."""
        features = self._window.features
        fields: dict[str, object] = {}
        for feature, name in zip(features, self._names, strict=True):
            fields[feature.name] = bulk_columns.plain_numbers(columns.column(name).slice(row, 1))[0].as_py()
        if not whole:
            return self._live.read(Sample(fields))[0]
        stream_id = None
        if self._line_column in columns.schema.names:
            names, lines = bulk_columns.names(columns.column(self._line_column).slice(row, 1))
            stream_id = names[int(lines[0])] if lines[0] >= 0 else None
        if self._time_column in columns.schema.names:
            column = columns.column(self._time_column).slice(row, 1)
            if not bulk_columns.times_us(column)[1][0]:
                fields[TIMESTAMP] = column[0].as_py()
        return self._live.read(Sample(fields, None, stream_id))[0]

    def _refusal(self, columns: pa.RecordBatch, row: int) -> InferenceError:
        """Why a row enters no line: all of its faults; gaps too if it belongs to none."""
        reading = self._reading(columns, row, whole=True)
        try:
            reading.filled([0.0] * len(self._names) if reading.faults else None)
        except InferenceError as error:
            return error
        raise AssertionError(f"row {row} was refused without a fault")


def _held(feature: Feature, given: Array, fits: Array) -> Array:
    """BOOL: values that are taken from the row before, as the feature's policies say."""
    if feature.when_missing == feature.when_out_of_range:
        return ~fits if feature.when_missing == "hold_last" else np.zeros(len(fits), np.bool_)
    absent = np.isnan(given)
    return ~fits & (absent if feature.when_missing == "hold_last" else ~absent)
