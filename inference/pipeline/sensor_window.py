"""From rows of sensor values to the tensor of a model that judges a window of rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import msgspec
import numpy as np

from inference.errors import InvalidValues, UnsupportedMedia
from inference.fault import Fault, quoted
from inference.model import SensorWindow
from inference.pipeline.features import TIMESTAMP, FeatureCheck, Reading
from inference.pipeline.sample import Prepared, Sample, wrong_input
from inference.pipeline.window import LineStore, Window
from inference.settings import LinesSettings
from inference.tensor import Array, Tensors

log = logging.getLogger(__name__)

STREAM_ID_CHARS_MAX = 128
GAP = (
    "line %s: %.3g s lie between two of its rows, where %.3g s are usual. Rows are lost, or go to another replica: "
    "route each line to one of them, as by an X-Stream-Id header (docs/processes.md)"
)
TIME_ACCEPTED = "a time as in RFC 3339, such as 2025-12-05T10:00:00Z; without an offset it is UTC"


def time_us_of(value: object) -> int | Fault:
    """Microseconds since 1970 of an RFC 3339 text, or what is wrong with it."""
    if isinstance(value, str):
        try:
            moment = msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            return Fault(f"data.{TIMESTAMP}", quoted(value), TIME_ACCEPTED)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return round(moment.timestamp() * 1e6)
    return Fault(f"data.{TIMESTAMP}", quoted(value), TIME_ACCEPTED)


def _floats(given: Array) -> Array:
    """Numbers of any kind as FP32. Raises InvalidValues."""
    if given.dtype == np.float32:
        return given
    if given.dtype.kind not in "fiu":
        raise InvalidValues([Fault("input.datatype", str(given.dtype), "float32, or numbers that become float32")])
    return given.astype(np.float32)


class SensorWindowInput:
    """Knows the lines of one model; belongs to one thread."""

    blocking = False

    def __init__(self, window: SensorWindow, settings: LinesSettings) -> None:
        self._input = window.input
        self._shape = (window.rows, len(window.features))
        self._check = FeatureCheck(window.features)
        # As large as a window: comparing without broadcasting takes a third of the time.
        self._low = np.full(self._shape, [feature.valid_min for feature in window.features], np.float32)
        self._high = np.full(self._shape, [feature.valid_max for feature in window.features], np.float32)
        self.lines = LineStore(
            [feature.name for feature in window.features],
            window.rows,
            rows_held=window.rows + settings.rows_held_extra,
            lines_max=settings.lines_max,
            idle_s=settings.idle_s,
            interval_us=round(window.row_interval_s * 1e6),
        )

    def prepare(self, sample: Sample) -> Prepared:
        """The window that ends at the sample's row: of its line, or that row repeated if it names none.

        Raises UnknownField, InvalidValues (every fault of the row), RowConflict, RowTooLate, UnsupportedMedia.
        """
        reading, time_us = self.read(sample)
        stream_id = sample.stream_id
        if stream_id is None:
            window = self.lines.alone(reading)
        else:
            window = self.lines.put(stream_id, reading, time_us, sample.arrival_us, sample.now_s)
            if window.gap is not None:
                log.warning(GAP, quoted(stream_id), window.gap.step_us / 1e6, window.gap.usual_us / 1e6)
        return self._prepared(window)

    def read(self, sample: Sample) -> tuple[Reading, int | None]:
        """The sample's row with its faults, and its time if it names one that can be read; no line takes it in.

        Raises UnknownField, UnsupportedMedia.
        """
        if sample.image_file is not None:
            raise UnsupportedMedia("content-type", "an image", ["application/json"])
        fields, stream_id = sample.fields, sample.stream_id
        reading = self._check.read(fields)
        faults: list[Fault] = []
        time_us = time_us_of(fields[TIMESTAMP]) if TIMESTAMP in fields else None
        if isinstance(time_us, Fault):
            faults.append(time_us)
            time_us = None
        if stream_id is not None and not 0 < len(stream_id) <= STREAM_ID_CHARS_MAX:
            accepted = f"text of 1 to {STREAM_ID_CHARS_MAX} characters"
            faults.append(Fault("stream_id", quoted(stream_id), accepted))
        if faults:
            reading.faults = [*faults, *reading.faults]
        return reading, time_us

    def prepare_one(self, given: object) -> Prepared:
        """The window over numbers [k, features], or over one or more rows with names, oldest first.

        The last rows count; a history shorter than the window is filled by repeating its first row. Raises
        UnknownField, InvalidValues.
        """
        if isinstance(given, np.ndarray):
            rows = _floats(given)
            if rows.shape == self._shape:
                self._check_values(rows)
                return Prepared({self._input: rows[None]}, self._shape[0])
            return self._filled(rows)
        named = [given] if isinstance(given, Mapping) else given
        if isinstance(named, Sequence) and all(isinstance(row, Mapping) for row in named):
            return self._prepared_rows(named)
        raise wrong_input(given, f"numbers [rows, {self._shape[1]}], or rows as mappings with names")

    def prepare_many(self, given: object) -> Tensors:
        """Windows as FP32 [n, rows, features]. Raises InvalidValues, which names 8 rows at most."""
        if not isinstance(given, np.ndarray):
            raise wrong_input(given, f"an array [n, {self._shape[0]}, {self._shape[1]}]")
        windows = _floats(given)
        if windows.ndim != 3 or windows.shape[1:] != self._shape:
            accepted = f"[n, {self._shape[0]}, {self._shape[1]}]"
            raise InvalidValues([Fault("input.shape", str(list(windows.shape)), accepted)])
        self._check_values(windows)
        return {self._input: windows}

    def _filled(self, rows: Array) -> Prepared:
        window_rows, features = self._shape
        if rows.ndim != 2 or rows.shape[1] != features or not len(rows):
            raise InvalidValues([Fault("input.shape", str(list(rows.shape)), f"[rows, {features}]")])
        known = rows[-window_rows:]
        window = np.concatenate([np.repeat(known[:1], window_rows - len(known), axis=0), known])[None]
        self._check_values(window)
        return Prepared({self._input: window}, len(known))

    def _prepared_rows(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        if not rows:
            raise InvalidValues([Fault("input", "no rows", "at least one row")])
        line = self.lines.new_line()
        for position, given in enumerate(rows):
            fields = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
            reading = self._check.read(fields, f"rows[{position}]")
            time_us = time_us_of(fields[TIMESTAMP]) if TIMESTAMP in fields else None
            if isinstance(time_us, Fault):
                reading.faults = [time_us, *reading.faults]
                time_us = None
            line.put(reading, time_us, position, "rows")
        return self._prepared(line.newest())

    def _check_values(self, windows: Array) -> None:
        above, below = windows >= self._low, windows <= self._high  # NaN is neither
        if b"\0" not in above.tobytes() and b"\0" not in below.tobytes():  # `all` takes ten times as long
            return
        bad = ~(above & below).all(axis=-1).reshape(-1, self._shape[0])
        faults: list[Fault] = []
        for index, row in np.argwhere(bad)[:8]:
            values = windows.reshape(-1, *self._shape)[index, row]
            faults += self._check.array_faults(values, f"input[{index}][{row}]")
        raise InvalidValues(faults)

    def _prepared(self, window: Window) -> Prepared:
        return Prepared({self._input: window.rows}, window.real_rows, window.measured_share)
