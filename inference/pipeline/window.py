"""The last rows of each production line, in the order of their time, and the windows over them.

Pure: time is an argument. Memory has a bound: a store holds at most

    lines_max * (rows_held * (4 * features + 16) + 700 bytes)

which is 25 MB for 10,000 lines, 64 rows and 3 features (4 bytes a value, 8 a timestamp, 8 for the held features; 700
for the line's objects and a name of at most 128 characters).

A line whose rows are due every 30 s and that brings none for a minute has a gap: rows are lost, or go to another
replica.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from inference.errors import InvalidValues, RowConflict, RowTooLate
from inference.fault import Fault
from inference.pipeline.features import Reading
from inference.tensor import Array

SHARE_DIGITS = 6
GAP_INTERVALS = 1.75  # of the interval that the model states: one row is missing, or as good as
GAP_STEPS = 3.0  # of the usual step, where the model states nothing: one row in two may be missing and none be told
USUAL_ROWS_MIN = 8  # of a line, below which nothing is usual
USUAL_EVERY_ROWS = 16  # the usual step is their median, which takes 5 us to find and changes slowly
GAP_TOLD_EVERY_S = 3600.0  # of one line
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Gap(NamedTuple):
    """The step to a line's newest row, and the one that is usual, in microseconds."""

    step_us: int
    usual_us: int


class Window(NamedTuple):
    """A window that ends at one row: FP32 [1, rows, features], its known rows, the measured share of their values."""

    rows: Array
    real_rows: int
    measured_share: float
    gap: Gap | None = None  # before its last row, if nobody was told lately


class LineState(NamedTuple):
    """The rows that a line holds, oldest first: INT64 [n] times, FP32 [n, features], BOOL [n, features] held values.

    `trimmed`: older rows have been dropped.
    """

    times_us: Array
    values: Array
    held: Array
    trimmed: bool


def as_time(timestamp_us: int) -> str:
    """Microseconds since 1970 as RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=timestamp_us)).isoformat().replace("+00:00", "Z")


class Line:
    """Rows of one line, at most `rows_held`, of which the oldest goes first."""

    __slots__ = (
        *("_features", "_held", "_interval_us", "_rows_held", "_rows_to_usual", "_times_us", "_trimmed", "_usual_us"),
        *("_values", "_window_rows", "gap_told_s", "touched_s"),
    )

    def __init__(self, features: Sequence[str], window_rows: int, rows_held: int, interval_us: int = 0) -> None:
        self._features = features
        self._window_rows = window_rows
        self._rows_held = rows_held
        self._interval_us = interval_us
        self._times_us = array("q")
        self._values = array("f")  # row after row
        self._held: list[int] = []  # a bit set of the features that a row took from the row before
        self._trimmed = False
        self._usual_us = 0
        self._rows_to_usual = USUAL_ROWS_MIN
        self.gap_told_s = float("-inf")
        self.touched_s = 0.0

    def put(self, reading: Reading, time_us: int | None, arrival_us: int, stream_id: str) -> Window:
        """Take a row in and give the window that ends at it. A row without a time is the newest.

        A row that is held already, with equal values, changes nothing. Raises InvalidValues, RowConflict, RowTooLate.
        """
        times_us = self._times_us
        place = len(times_us)
        if time_us is None:
            time_us = max(arrival_us, times_us[-1] + 1) if place else arrival_us
        elif place and time_us <= times_us[-1]:
            place = bisect_left(times_us, time_us)
        if self._trimmed and place < self._window_rows - 1:
            raise RowTooLate(stream_id, as_time(time_us), as_time(times_us[self._window_rows - 2]))
        width = len(self._features)
        values, held = reading.filled(self._values[(place - 1) * width : place * width] if place else None)
        row = array("f", values)
        if place < len(times_us) and times_us[place] == time_us:
            self._refuse_conflict(place, row, held, stream_id)
            return self._window(place)
        if held:
            self._refuse_stale(reading, place, held)
        gap = self._gap(time_us) if place and place == len(times_us) else None
        times_us.insert(place, time_us)
        self._values[place * width : place * width] = row
        self._held.insert(place, held)
        window = self._window(place)
        if len(times_us) > self._rows_held:
            del times_us[0], self._values[:width], self._held[0]
            self._trimmed = True
        return window if gap is None else window._replace(gap=gap)

    @property
    def newest_us(self) -> int | None:
        """The time of its newest row, None if it has no row."""
        return self._times_us[-1] if self._times_us else None

    def state(self) -> LineState:
        """What it holds, as copies."""
        width = len(self._features)
        held = np.array([[bits >> index & 1 for index in range(width)] for bits in self._held], np.bool_)
        values = np.array(self._values, np.float32).reshape(-1, width)
        return LineState(np.array(self._times_us, np.int64), values, held.reshape(-1, width), self._trimmed)

    def restore(self, state: LineState) -> None:
        """Hold these rows in place of its own; what is usual for the line is learned anew."""
        assert len(state.times_us) <= self._rows_held, "a line has a bound"
        self._times_us = array("q", state.times_us.astype(np.int64).tobytes())
        self._values = array("f", state.values.astype(np.float32).tobytes())
        self._held = [sum(1 << int(index) for index in row.nonzero()[0]) for row in state.held]
        self._trimmed = state.trimmed

    def newest(self) -> Window:
        """The window that ends at the newest row of a line that has one."""
        return self._window(len(self._times_us) - 1)

    def _gap(self, time_us: int) -> Gap | None:
        """What lies before a row that becomes the newest, if that is much."""
        if self._rows_to_usual == 0:
            self._usual_us = self._interval_us or self._median_step_us()
            self._rows_to_usual = USUAL_EVERY_ROWS
        self._rows_to_usual -= 1
        step_us, usual_us = time_us - self._times_us[-1], self._usual_us
        limit = GAP_INTERVALS if self._interval_us else GAP_STEPS
        return Gap(step_us, usual_us) if usual_us and step_us > limit * usual_us else None

    def _median_step_us(self) -> int:
        steps = sorted(later - earlier for earlier, later in pairwise(self._times_us))
        return steps[len(steps) // 2] if steps else 0

    def _window(self, place: int) -> Window:
        width = len(self._features)
        stop = place + 1
        start = max(0, stop - self._window_rows)
        values = self._values[start * width : stop * width]
        real = stop - start
        if real < self._window_rows:
            values = values[:width] * (self._window_rows - real) + values
        rows = np.frombuffer(values, np.float32).reshape(1, self._window_rows, width)
        held = self._held[start:stop]
        if not any(held):
            return Window(rows, real, 1.0)
        measured_share = 1.0 - sum(map(int.bit_count, held)) / (real * width)
        return Window(rows, real, round(measured_share, SHARE_DIGITS))

    def _refuse_conflict(self, place: int, row: Sequence[float], held: int, stream_id: str) -> None:
        """A retry has to bring the values that are held; a value that was missing has to be missing again."""
        faults = []
        first = place * len(self._features)
        for index, (name, given) in enumerate(zip(self._features, row, strict=True)):
            known = self._values[first + index]
            was_held, is_held = self._held[place] >> index & 1, held >> index & 1
            if was_held != is_held or (not is_held and known != given):
                given_text, known_text = (
                    "nothing" if gap else f"{value:g}" for gap, value in ((is_held, given), (was_held, known))
                )
                faults.append(Fault(f"data.{name}", given_text, f"{known_text}, as before"))
        if faults:
            raise RowConflict(stream_id, as_time(self._times_us[place]), faults)

    def _refuse_stale(self, reading: Reading, place: int, held: int) -> None:
        """A value is held for a window at most: a window without one measured value of a sensor says nothing of it."""
        rows = max(self._window_rows, 2)
        if place < rows - 1:
            return  # the first row of a line is always measured, and is part of this window
        for earlier in self._held[place - rows + 1 : place]:
            held &= earlier
            if not held:
                return
        raise InvalidValues([fault for index, fault in reading.gaps if held >> index & 1])


class LineStore:
    """The lines that one model knows, by `stream_id`.

    A line that was idle for longer than `idle_s` is forgotten, and beyond `lines_max` the one idle for longest. Rows
    are due every `interval_us`, 0 if that is not known.
    """

    def __init__(
        self,
        features: Sequence[str],
        window_rows: int,
        *,
        rows_held: int,
        lines_max: int,
        idle_s: float,
        interval_us: int = 0,
    ) -> None:
        assert rows_held >= window_rows, "a window has to fit"
        self._features = tuple(features)
        self._window_rows = window_rows
        self._rows_held = rows_held
        self._lines_max = lines_max
        self._idle_s = idle_s
        self._interval_us = interval_us
        self.gaps = 0  # seen since the start
        self._lines: OrderedDict[str, Line] = OrderedDict()  # the one idle for longest comes first

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._lines

    def new_line(self) -> Line:
        """A line that is not part of the store."""
        return Line(self._features, self._window_rows, self._rows_held, self._interval_us)

    def alone(self, reading: Reading) -> Window:
        """The window of a row that belongs to no line: that row, repeated. Raises InvalidValues."""
        values, _ = reading.filled(None)
        rows = np.frombuffer(array("f", values) * self._window_rows, np.float32)
        return Window(rows.reshape(1, self._window_rows, len(values)), 1, 1.0)

    def put(self, stream_id: str, reading: Reading, time_us: int | None, arrival_us: int, now_s: float) -> Window:
        """Take a row into its line and give the window that ends at it. A refused row leaves everything as it was.

        Raises InvalidValues, RowConflict, RowTooLate.
        """
        lines = self._lines
        self._forget_idle(now_s)
        line = lines.get(stream_id)
        fresh = line is None
        if line is None:
            line = self.new_line()
        window = line.put(reading, time_us, arrival_us, stream_id)
        if window.gap is not None:
            window = self._told_once(line, window, now_s)
        line.touched_s = now_s
        lines[stream_id] = line
        lines.move_to_end(stream_id)
        if fresh and len(lines) > self._lines_max:
            lines.popitem(last=False)
        return window

    def _told_once(self, line: Line, window: Window, now_s: float) -> Window:
        """Counts a gap; without it if one of this line was told lately."""
        self.gaps += 1
        if now_s - line.gap_told_s < GAP_TOLD_EVERY_S:
            return window._replace(gap=None)
        line.gap_told_s = now_s
        return window

    def _forget_idle(self, now_s: float) -> None:
        lines = self._lines
        while lines:
            stream_id, line = next(iter(lines.items()))
            if now_s - line.touched_s <= self._idle_s:
                return
            del lines[stream_id]
