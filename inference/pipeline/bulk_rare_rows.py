"""Rows that the bulk form of windows has no short way for: they go through `window.Line`, one by one."""

from __future__ import annotations

import numpy as np

from inference.errors import CallerError
from inference.job_errors import RowsUnordered
from inference.pipeline.bulk_line_rows import LineRows, Windows
from inference.pipeline.bulk_line_states import LineStates
from inference.pipeline.window import Line, Window, as_time
from inference.tensor import Array


class RareRows:
    """Puts rows into lines as `window.LineStore` does, but for the clock: no line is idle in a dataset.

    `refuse_unordered`: a row older than one before it spoils the dataset.
    """

    def __init__(self, states: LineStates, *, refuse_unordered: bool) -> None:
        self._states = states
        self._refuse_unordered = refuse_unordered

    def put(self, block: LineRows, windows: Windows, rows: Array, *, crowded: bool) -> None:
        """All rows of some lines, in their order, into `windows`; of all lines if it is `crowded`.

        Crowded: more lines may be known than there may be, so that the one idle for longest is forgotten. Raises
        RowsUnordered.
        """
        states = self._states
        idle = dict.fromkeys(states.by_idleness()) if crowded else {}
        lines: dict[str, Line] = {}
        touched: dict[str, int] = {}
        found: list[tuple[int, Window]] = []
        for row in rows.tolist():
            name = block.names[int(block.lines[row])]
            number = states.rows_seen + row
            line = lines.get(name)
            if line is None:
                line = states.line(name)
            time_us = None if block.times_us is None else int(block.times_us[row])
            if self._refuse_unordered and time_us is not None:
                _refuse_late(line, name, time_us, number)
            try:
                window = line.put(block.reading(row), time_us, number, name)
            except CallerError as error:
                windows.refused[row] = error
                continue
            found.append((row, window))
            lines[name], touched[name] = line, number
            if crowded:
                idle.pop(name, None)
                idle[name] = None
                if len(idle) > states.lines_max:
                    self._forget(next(iter(idle)), idle, lines)
        for name, line in lines.items():
            states.keep(name, line.state(), touched[name])
        _append(windows, found)

    def _forget(self, name: str, idle: dict[str, None], lines: dict[str, Line]) -> None:
        del idle[name]
        lines.pop(name, None)
        if self._states.find(name) >= 0:
            self._states.drop(name)


def _refuse_late(line: Line, name: str, time_us: int, number: int) -> None:
    newest_us = line.newest_us
    if newest_us is not None and time_us < newest_us:
        raise RowsUnordered(number, name, as_time(time_us), as_time(newest_us))


def _append(windows: Windows, found: list[tuple[int, Window]]) -> None:
    """Windows that were made one by one, as rows behind all others."""
    if not found:
        return
    rows = np.array([row for row, _ in found], np.int64)
    many = np.concatenate([window.rows[0] for _, window in found])
    window_rows = len(many) // len(found)
    windows.accepted[rows] = True
    windows.ends[rows] = len(windows.rows) - 1 + np.arange(1, len(found) + 1) * window_rows
    windows.rows = np.concatenate([windows.rows, many])
    windows.real_rows[rows] = [window.real_rows for _, window in found]
    shares = np.array([window.measured_share for _, window in found])
    if windows.quality is None and (shares != 1.0).any():
        windows.quality = np.ones(len(windows.accepted))
    if windows.quality is not None:
        windows.quality[rows] = shares
