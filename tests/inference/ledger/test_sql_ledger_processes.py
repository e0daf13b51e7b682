"""Real processes at one ledger: many at once, one that is killed, a database server that goes away meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference.database.database import open_database
from inference.job_errors import LedgerUnavailable
from inference.ledger.owners import is_dead, this_owner
from inference.ledger.sql_ledger import SqlLedger
from tests.inference.ledger.ledger_bench import ANN, LEASE_US, outcome, start, take
from tests.inference.ledger.working_process import HOUR_US, begin, claims, insist, started
from tests.inference.live_server import ROOT
from tests.inference.postgres_server import PostgresServer
from tests.inference.process_group import until

SHARDS = 48


@pytest.mark.parametrize("count", [1, 3])
def test_eight_processes_never_claim_the_same_attempt(database_url: str, count: int) -> None:
    ledger = SqlLedger(open_database(database_url))
    job_id = start(ledger, SHARDS)
    workers = [started(database_url, count, "work") for _ in range(8)]
    for worker in workers:
        begin(worker)
    seen = [claim for worker in workers for claim in claims(worker)]
    # Nothing was lost, so no second attempt was ever made of the shards, nor of the finish behind them.
    assert sorted(seen) == [(number, 1) for number in range(SHARDS + 1)]
    job = ledger.job(job_id)
    assert (job.status, job.counts.rows_done, job.counts.shards_done) == ("completed", SHARDS * 10, SHARDS + 1)
    ledger.close()


def test_what_a_killed_process_held_is_free_at_once(database_url: str) -> None:
    ledger = SqlLedger(open_database(database_url))
    start(ledger, 3)
    holder = started(database_url, 2, "hold")
    begin(holder)
    assert holder.stdout is not None
    assert [json.loads(holder.stdout.readline()) for _ in range(2)] == [[0, 1], [1, 1]]
    assert holder.stdout.readline() == "end\n"
    me = this_owner()
    assert [claim.number for claim in ledger.claim(me, 5, HOUR_US)] == [2]
    assert [owner.pid for owner in ledger.owners() if is_dead(owner)] == []
    holder.send_signal(signal.SIGKILL)
    holder.wait(30)
    holder.communicate()
    dead = [owner for owner in ledger.owners() if is_dead(owner)]
    assert [owner.pid for owner in dead] == [holder.pid]
    assert ledger.claim(me, 5, HOUR_US) == []  # their leases go on for an hour
    taken = ledger.claim(me, 5, HOUR_US, dead=dead)
    assert [(claim.number, claim.attempt) for claim in taken] == [(0, 2), (1, 2)]
    ledger.close()


def test_a_server_that_is_started_anew_loses_nothing_that_was_committed(postgres_server: PostgresServer) -> None:
    ledger = SqlLedger(open_database(postgres_server.new_database()))
    job_id = start(ledger, 4)
    claim = take(ledger)
    assert ledger.complete(claim, outcome())
    claim = take(ledger)
    postgres_server.stop("immediate")
    try:
        with pytest.raises(
            LedgerUnavailable, match=r"does not answer: postgresql://glassai@127.0.0.1:\d+/test_\d+: \w"
        ):
            ledger.complete(claim, outcome())
        with pytest.raises(LedgerUnavailable, match="go on once it does"):
            ledger.claim(ANN, 1, LEASE_US)
    finally:
        postgres_server.start()
    assert ledger.job(job_id).counts.shards_done == 1
    assert ledger.complete(claim, outcome())
    for _ in range(2):
        assert ledger.complete(take(ledger), outcome())
    assert ledger.job(job_id).counts.rows_done == 40
    ledger.close()


def test_workers_outlive_a_server_that_is_started_anew(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    ledger = SqlLedger(open_database(url))
    job_id = start(ledger, SHARDS)
    workers = [started(url, 1, "work") for _ in range(3)]
    for worker in workers:
        begin(worker)
    for how, done in (("immediate", 3), ("fast", 12)):
        until("the job does not go on", lambda done=done: insist(lambda: ledger.job(job_id)).counts.shards_done >= done)
        postgres_server.stop(how)
        postgres_server.start()
    # A claim whose commit was not answered is not known to its process; its lease is over one day.
    until("the job does not go on", lambda: _all_done_or_held(ledger, job_id))
    held = [shard for shard in ledger.shards(job_id, 0, SHARDS) if shard.state == "claimed"]
    for claim in ledger.claim(this_owner(), SHARDS, HOUR_US, dead=[shard.owner for shard in held if shard.owner]):
        ledger.complete(claim, outcome())
    seen = [claim for worker in workers for claim in claims(worker)]
    assert len(seen) == len(set(seen))
    job = ledger.job(job_id)
    assert (job.status, job.counts.rows_done, job.counts.shards_done) == ("completed", SHARDS * 10, SHARDS + 1)
    ledger.close()


def _all_done_or_held(ledger: SqlLedger, job_id: str) -> bool:
    shards = insist(lambda: ledger.shards(job_id, 0, SHARDS))
    held = sum(shard.state == "claimed" for shard in shards)
    return held < len(shards) and all(shard.state in ("done", "claimed") for shard in shards)


def can_mount() -> bool:
    """Whether this machine lets us have a file system of our own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="no file systems of our own here")
def test_a_full_disk_is_told_and_what_was_committed_stays(tmp_path: Path) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.inference.ledger.filling_process", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    error, done, kept, shards = json.loads(run.stdout)
    assert "does not answer" in error
    assert "disk is full" in error
    assert kept == done < shards == 41
