"""Windows over the rows of many lines at once, the same that `window.Line` gives row by row.

A block's rows are sorted by line, and of each line one segment is laid out: the rows that it holds, then its new ones.
A window is then a stretch of that array, and held values are filled by a running maximum of places. A line that has
something rare in a block (a row that is late, repeated or refused, a value held for too long) goes through `Line`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.pipeline.bulk_line_rows import LineRows, Windows
from inference.pipeline.bulk_line_states import LineStates
from inference.pipeline.bulk_rare_rows import RareRows
from inference.pipeline.window import SHARE_DIGITS
from inference.tensor import Array

EARLIEST_US = np.iinfo(np.int64).min


@dataclass(slots=True, eq=False)
class _Segments:
    """The rows of a block line by line, one segment after the other, each with its history before it.

    `order` [m]: places in the block; `line` [m]: the segment, 0, 1, 2 ...; `places` [m]: where a row lies in
    `Windows.rows`. A segment has its line's place in the names (`codes`), its slot (-1: the line is not known), the
    place in `order` where it begins (`first`), its `lengths`, and where its history lies (`history`
    [segments, width - 1]).
    """

    order: Array
    line: Array
    places: Array
    codes: Array
    slots: Array
    first: Array
    lengths: Array
    history: Array


class BulkLines:
    """Takes blocks in their order. `refuse_unordered`: a row older than one before it spoils the dataset."""

    def __init__(self, states: LineStates, *, refuse_unordered: bool) -> None:
        self.states = states
        self._rare_rows = RareRows(states, refuse_unordered=refuse_unordered)

    def windows(self, block: LineRows, alone: Array) -> Windows:
        """The windows of a block; `alone` INT64: rows of no line, whose windows repeat them. Raises RowsUnordered."""
        states = self.states
        slots = np.array([states.find(name) for name in block.names], np.int64)
        segments = self._segments(block, slots)
        windows = self._laid_out(block, segments, alone)
        crowded = len(states) + int((slots < 0).sum()) > states.lines_max  # a line may have to be forgotten
        rare = np.full(len(block.names), crowded, np.bool_)
        if block.times_us is not None:
            _find_disorder(block, segments, self._newest_us(slots), rare)
        held = self._fill_gaps(block, segments, windows, rare)
        self._accept(block, segments, windows, held, rare)
        if rare.any():
            rows = np.flatnonzero(rare[block.lines] & (block.lines >= 0))
            self._rare_rows.put(block, windows, rows, crowded=crowded)
        states.rows_seen += len(block.lines)
        return windows

    def _newest_us(self, slots: Array) -> Array:
        """The time of each line's newest row; the first of all times for a line that is not known."""
        return np.where(slots >= 0, self.states.times_us[slots, -1], EARLIEST_US)

    def _segments(self, block: LineRows, slots: Array) -> _Segments:
        rows = np.flatnonzero((block.lines >= 0) & ~block.faulty)
        lines = block.lines[rows]
        if len(block.names) > 1:
            # A stable sort of 16 bits is a radix sort, five times as fast as one of 64 bits.
            by_line = np.argsort(lines.astype(np.uint16) if len(block.names) <= 1 << 16 else lines, kind="stable")
            rows, lines = rows[by_line], lines[by_line]
        starts = np.empty(len(lines), np.bool_)
        starts[:1] = True
        np.not_equal(lines[1:], lines[:-1], out=starts[1:])
        first = np.flatnonzero(starts)
        line = np.cumsum(starts) - 1
        before = self.states.width - 1
        history = (first + np.arange(len(first)) * before)[:, None] + np.arange(before)
        places = np.arange(len(rows)) + (line + 1) * before
        codes = lines[first]
        return _Segments(rows, line, places, codes, slots[codes], first, np.diff(first, append=len(rows)), history)

    def _laid_out(self, block: LineRows, segments: _Segments, alone: Array) -> Windows:
        states = self.states
        count, features = block.values.shape
        in_lines = segments.history.size + len(segments.order)
        rows = np.empty((in_lines + len(alone) * states.window_rows, features), np.float32)
        rows[segments.places] = block.values[segments.order]
        known = segments.slots >= 0
        rows[segments.history[known]] = states.values[segments.slots[known], 1:]
        rows[segments.history[~known]] = rows[segments.places[segments.first[~known]]][:, None]
        rows[in_lines:] = np.repeat(block.values[alone], states.window_rows, axis=0)
        ends = np.zeros(count, np.int64)
        ends[alone] = in_lines - 1 + np.arange(1, len(alone) + 1) * states.window_rows
        accepted = np.zeros(count, np.bool_)
        accepted[alone] = True
        return Windows(rows, ends, accepted, np.ones(count, np.int16), None, {})

    def _fill_gaps(self, block: LineRows, segments: _Segments, windows: Windows, rare: Array) -> Array | None:
        """Fills the values that are missing in `windows`; which are held, BOOL like its rows, or None if none is.

        Lines with a value that cannot be held become rare.
        """
        states = self.states
        known = segments.slots >= 0
        earlier = states.held[segments.slots[known], 1:]
        if block.gaps is None and not earlier.any():
            return None
        held = np.zeros(windows.rows.shape, np.bool_)
        held[segments.history[known]] = earlier
        if block.gaps is None:
            return held
        gaps = block.gaps[segments.order]
        rare[segments.codes[~known & gaps[segments.first].any(axis=1)]] = True  # there is no row before
        held[segments.places] = gaps
        places = np.arange(len(held))
        longest = max(states.window_rows, 2)
        for feature in np.flatnonzero(gaps.any(axis=0)):
            missing = np.flatnonzero(gaps[:, feature])
            here = segments.places[missing]
            is_gap = np.zeros(len(held), np.bool_)
            is_gap[here] = True
            filled_from = np.maximum.accumulate(np.where(is_gap, 0, places))
            windows.rows[here, feature] = windows.rows[filled_from[here], feature]
            measured = np.maximum.accumulate(np.where(held[:, feature], -1, places))[here]
            line = segments.line[missing]
            begin = segments.history[line, 0]
            stale = (measured < begin) | (here - measured >= longest)
            rare[segments.codes[line[stale]]] = True
        return held

    def _accept(self, block: LineRows, segments: _Segments, windows: Windows, held: Array | None, rare: Array) -> None:
        """Rows of all lines that are not rare: their windows, and what the lines hold after them."""
        states = self.states
        good = ~rare[segments.codes]
        if not good.any():
            return
        for index in np.flatnonzero(good & (segments.slots < 0)):
            segments.slots[index] = states.take(block.names[int(segments.codes[index])])
        before = np.where(good, states.counts[segments.slots], 0)
        if good.all():
            order, places, line = segments.order, segments.places, segments.line
        else:
            mine = good[segments.line]
            order, places, line = segments.order[mine], segments.places[mine], segments.line[mine]
        number = places - segments.history[line, -1] + before[line]  # of a row in its line, from 1
        real_rows = np.minimum(number, states.window_rows)
        windows.accepted[order] = True
        windows.ends[order] = places
        windows.real_rows[order] = real_rows
        if held is not None:
            windows.quality = np.ones(len(block.lines))
            windows.quality[order] = _measured_share(held, places, real_rows, states.window_rows)
        self._keep(block, segments, windows, held, np.flatnonzero(good))

    def _keep(self, block: LineRows, segments: _Segments, windows: Windows, held: Array | None, kept: Array) -> None:
        states, slots = self.states, segments.slots[kept]
        last = segments.first[kept] + segments.lengths[kept] - 1
        newest = segments.places[last][:, None] + np.arange(1 - states.width, 1)
        numbers = segments.order + states.rows_seen
        times_us = np.zeros(len(windows.rows), np.int64)
        times_us[segments.history[kept]] = states.times_us[slots, 1:]
        times_us[segments.places] = numbers if block.times_us is None else block.times_us[segments.order]
        states.times_us[slots] = times_us[newest]
        states.values[slots] = windows.rows[newest]
        states.held[slots] = False if held is None else held[newest]
        total = states.counts[slots] + segments.lengths[kept]
        states.trimmed[slots] |= total > states.rows_held
        states.counts[slots] = np.minimum(total, states.rows_held)
        states.touched[slots] = numbers[last]


def _find_disorder(block: LineRows, segments: _Segments, newest_us: Array, rare: Array) -> None:
    """Lines with a row that is not newer than all before it become rare."""
    assert block.times_us is not None, "rows without times have no disorder"
    times_us = block.times_us[segments.order]
    before_us = np.empty_like(times_us)
    before_us[1:] = times_us[:-1]
    before_us[segments.first] = newest_us[segments.codes]
    rare[segments.codes[segments.line[times_us <= before_us]]] = True
    faulty = np.flatnonzero(block.faulty & (block.lines >= 0))
    if not len(faulty):
        return
    count = len(block.lines)
    keys = segments.codes[segments.line] * count + segments.order
    lines = block.lines[faulty]
    before = np.searchsorted(keys, lines * count + faulty) - 1
    same = (before >= 0) & (block.lines[segments.order[before]] == lines) if len(keys) else before >= 0
    latest_us = newest_us[lines]
    latest_us[same] = times_us[before[same]]
    rare[lines[block.times_us[faulty] <= latest_us]] = True


def _measured_share(held: Array, places: Array, real_rows: Array, window_rows: int) -> Array:
    """The share of measured values among the known rows of windows, FLOAT64, rounded as `Line` does."""
    features = held.shape[1]
    so_far = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    counts = so_far[places + 1] - so_far[places + 1 - window_rows]
    shares = np.ones(len(places))
    some = np.flatnonzero(counts)
    cases = real_rows[some] * (window_rows * features + 1) + counts[some]
    distinct, which = np.unique(cases, return_inverse=True)
    known, missing = np.divmod(distinct, window_rows * features + 1)
    exact = [
        round(1.0 - number / (real * features), SHARE_DIGITS)
        for number, real in zip(missing.tolist(), known.tolist(), strict=True)
    ]
    shares[some] = np.array(exact, np.float64)[which]
    return shares
