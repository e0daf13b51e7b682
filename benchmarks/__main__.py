"""`python -m benchmarks`: measure all rows, or `--row NAME`, and write the figures into the documents."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.bench import PROFILES, alone
from benchmarks.http_rows import LEVELS, QUICK, Effort, http_row, open_inference, stream
from benchmarks.process_rows import in_process, session_run, size, start
from benchmarks.report import write_report
from benchmarks.results import Result, keep

Row = Callable[[str, Effort], Result]


ROWS: dict[str, Row] = {
    "session-run": session_run,
    **{f"oip-c{level}": partial(http_row, open_inference, level) for level in LEVELS},
    **{f"stream-c{level}": partial(http_row, stream, level) for level in LEVELS},
    "in-process": in_process,
    "start": start,
    "size": size,
}


def main() -> int:
    """Exit status 1 if a bar is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="measure this row only; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works; nothing is written")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return 0
    met = True
    with alone():
        shutil.rmtree(PROFILES, ignore_errors=True)  # each run measures the batch sizes afresh
        for name in options.row or ROWS:
            print(f"{name} ...", flush=True)
            measured = ROWS[name](name, QUICK if options.quick else Effort())
            show(measured)
            met &= all(bar.met for bar in measured.bars)
            if not options.quick:
                keep(measured)
                write_report()
    return 0 if met else 1


def show(measured: Result) -> None:
    """Print the figures of a row."""
    if c := measured.comparison:
        for name, side in (("ours", c.ours), ("FastAPI", c.peer), ("constant route", c.constant)):
            print(f"  {name:<15} {side.requests_s:>9,.0f}/s   p50 {side.p50_ms:.2f} ms   p99 {side.p99_ms:.2f} ms")
        print(f"  ratio {c.ratio}   control {c.control}")
    for what, figure in measured.facts:
        print(f"  {what}: {figure}")
    for bar in measured.bars:
        print(f"  {bar.what}: {bar.figure} (bar {bar.limit}) {'met' if bar.met else 'NOT MET'}")


if __name__ == "__main__":
    sys.exit(main())
