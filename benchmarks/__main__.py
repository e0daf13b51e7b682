"""`python -m benchmarks`: measure all rows, or `--row NAME`, and write the figures into the documents."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time

from benchmarks.bench import PROFILES, alone, need_cores
from benchmarks.effort import QUICK, Effort
from benchmarks.load import need_wrk
from benchmarks.report import write_report
from benchmarks.results import Result, keep
from benchmarks.rows import ROWS


def main() -> int:
    """Exit status 1 if a bar is not met or a row could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="measure this row only; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--report", action="store_true", help="write the documents from what is measured, and no more")
    parser.add_argument(
        "--quick", action="store_true", help="some seconds a row, to see that it works (BENCH_QUICK=1); nothing is kept"
    )
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return 0
    if options.report:
        write_report(list(ROWS))
        return 0
    need_cores()
    need_wrk()
    quick = options.quick or os.environ.get("BENCH_QUICK") == "1"
    with alone():
        shutil.rmtree(PROFILES, ignore_errors=True)  # each run measures the batch sizes afresh
        done = [measure(name, quick=quick) for name in options.row or ROWS]
    return 0 if all(done) else 1


def measure(name: str, *, quick: bool) -> bool:
    """Measure a row, print it and keep it; whether every bar of it is met. A row that fails does not end the others."""
    print(f"{name} ..." + (" (quick: these figures mean nothing)" if quick else ""), flush=True)
    started = time.monotonic()
    try:
        measured = ROWS[name](name, QUICK if quick else Effort())
    except Exception as error:  # noqa: BLE001 - whatever one row meets, the others are measured
        print(f"  NOT MEASURED: {type(error).__name__}: {error}", flush=True)
        return False
    show(measured)
    print(f"  {time.monotonic() - started:.0f} s", flush=True)
    if not quick:
        keep(measured)
        write_report(list(ROWS))
    return all(bar.met for bar in measured.bars)


def show(measured: Result) -> None:
    """Print the figures of a row."""
    if c := measured.comparison:
        sides = [("ours", c.ours, f"control {c.control}"), *((r.name, r.side, f"ours is {r.ratio}x") for r in c.peers)]
        for name, side, beside in [*sides, ("constant route", c.constant, "")]:
            rate = f"{side.requests_s:>9,.0f}/s   p50 {side.p50_ms:.2f} ms   p99 {side.p99_ms:.2f} ms"
            print(f"  {name:<22} {rate}   {beside}".rstrip())
    for what, figure in measured.facts:
        print(f"  {what}: {figure}")
    for bar in measured.bars:
        beside = f"; {bar.beside}" if bar.beside else ""
        print(f"  {bar.what}: {bar.figure} (bar {bar.limit}{beside}) {'met' if bar.met else 'NOT MET'}")


if __name__ == "__main__":
    sys.exit(main())
