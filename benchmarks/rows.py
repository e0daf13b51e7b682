"""Every row by name, in the order of the documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.effort import Effort
from benchmarks.limit_rows import lines, oip_vs_bare, processes, session_run, vit_c16
from benchmarks.open_rows import generator, poisson_70
from benchmarks.overload_rows import overload_lstm, overload_vit
from benchmarks.peer_rows import LEVELS, bundled_stream, oip
from benchmarks.process_rows import in_process, size, start
from benchmarks.results import Result
from benchmarks.robust_rows import bad_client_row, resident

Row = Callable[[str, Effort], Result]

ROWS: dict[str, Row] = {
    **{f"oip-c{level}": partial(oip, level) for level in reversed(LEVELS)},
    "oip-vs-bare": oip_vs_bare,
    "lines": lines,
    "processes": processes,
    "vit-c16": vit_c16,
    "poisson-70": poisson_70,
    "overload-vit": overload_vit,
    "overload-lstm": overload_lstm,
    "bad-client": bad_client_row,
    "in-process": in_process,
    "rss": resident,
    "start": start,
    "size": size,
    **{f"stream-c{level}": partial(bundled_stream, level) for level in reversed(LEVELS)},
    "session-run": session_run,
    "generator": generator,
}
