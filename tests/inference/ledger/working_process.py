"""A process that works at a job: `python -m tests.inference.ledger.working_process URL COUNT hold|work`.

It says `ready`, waits for a line, and then writes a line of JSON for each claim, [number, attempt], and `end`. With
`hold` it claims once and then waits for its end. With `work` it completes what it claims until the job has ended; while
the ledger does not answer it tries again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from inference.database.database import open_database
from inference.job import ENDED
from inference.job_errors import LedgerUnavailable
from inference.ledger.owners import this_owner
from inference.ledger.sql_ledger import SqlLedger
from tests.inference.ledger.ledger_bench import outcome
from tests.inference.live_server import ROOT

HOUR_US = 3_600_000_000
T = TypeVar("T")


def started(url: str, count: int, what: str) -> subprocess.Popen[str]:
    """Such a process, once it is ready; it begins when it is told to."""
    command = [sys.executable, "-m", __name__, url, str(count), what]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    """Let it work."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def claims(process: subprocess.Popen[str]) -> list[tuple[int, int]]:
    """Number and attempt of what it claimed, once it has ended."""
    told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    lines = told.splitlines()
    assert lines[-1] == "end"
    return [(number, attempt) for number, attempt in map(json.loads, lines[:-1])]


def insist(call: Callable[[], T]) -> T:
    """What a worker does while the ledger does not answer."""
    while True:
        try:
            return call()
        except LedgerUnavailable:
            time.sleep(0.02)


def main(url: str, count: int, what: str) -> None:
    """See above."""
    ledger, me = SqlLedger(open_database(url)), this_owner()
    print("ready", flush=True)
    sys.stdin.readline()
    while insist(lambda: ledger.job("job_1")).status not in ENDED:
        for claim in insist(lambda: ledger.claim(me, count, HOUR_US)):
            print(json.dumps([claim.number, claim.attempt]), flush=True)
            if what == "work":
                insist(lambda claim=claim: ledger.complete(claim, outcome()))
        if what == "hold":
            print("end", flush=True)
            sys.stdin.readline()
    ledger.close()
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
