"""What the checks of the ledgers' contract are made of: a bench with a ledger and its time, jobs, shards, outcomes."""

from __future__ import annotations

from typing import Protocol

from inference.job import Dataset, Job, JobSpec, Output, RunSettings
from inference.ledger.ledger import Ledger, NewJob
from inference.shard import Claim, Owner, Part, Piece, Shard, ShardFailure, ShardOutcome, ShardRange, Tally

LEASE_US = 60_000_000
SECOND_US = 1_000_000
DEFAULT_RUN = RunSettings()
ANN, BOB = Owner("a", "boot-a", 11, "100"), Owner("rack/b", "boot-b", 12, "200")
RETRY = ShardFailure("retry", "read_failed", "The file could not be read.")
WAIT = ShardFailure("wait", "store_full", "No room is left.")
END = ShardFailure("end", "input_changed", "The input has changed.")


class Bench(Protocol):
    """An empty ledger with the usual policies, and its time. Where the clock is a server's, stored times may be moved
    back in place of it. `peer` is a second ledger on the same store, as another process has one."""

    ledger: Ledger
    peer: Ledger

    def pass_time(self, us: int) -> None:
        """So many microseconds go by."""
        ...


def new_job(job_id: str = "job_1", identity: str = "", run: RunSettings = DEFAULT_RUN, **facts: object) -> NewJob:
    """A job of the model m/1."""
    spec = JobSpec("m", Dataset(("rows.csv",), "csv"), Output("out.csv", "csv"), run=run)
    return NewJob(job_id, identity, "m/1", "5ha", spec, **facts)


def ranges(shards: int, rows: int | None = 10) -> list[ShardRange]:
    """So many shards of so many rows each."""
    return [ShardRange(n, n * 10, rows, (Piece(0, n * 10, n * 10 + 10),)) for n in range(shards)]


def outcome(rows: int = 10, failed: int = 0) -> ShardOutcome:
    """What a shard came to."""
    part = Part("parts/x.csv", rows, 100, "5ha")
    return ShardOutcome(Tally(rows, failed, {"not_finite": failed} if failed else {}, {"ok": rows - failed}), part)


def start(ledger: Ledger, shards: int = 3, job: NewJob | None = None, rows: int | None = 10) -> str:
    """A job that has been planned; its id."""
    job = job or new_job()
    assert ledger.create(job) is not None
    (plan,) = ledger.claim(ANN, 1, LEASE_US, job.id)
    assert (plan.number, plan.kind, plan.attempt, plan.range) == (-1, "plan", 1, None)
    total = None if rows is None else shards * rows
    assert ledger.complete_plan(plan, ranges(shards, rows), total)
    return job.id


def take(ledger: Ledger, owner: Owner = ANN, job_id: str | None = None) -> Claim:
    """The one next claim."""
    (claim,) = ledger.claim(owner, 1, LEASE_US, job_id)
    return claim


def states(ledger: Ledger, job_id: str) -> list[str]:
    """The states of all shards behind the plan."""
    return [shard.state for shard in ledger.shards(job_id, 0, 100)]


def shard(ledger: Ledger, job_id: str, number: int) -> Shard:
    """One shard."""
    (found,) = ledger.shards(job_id, number, 1)
    return found


def events(job: Job) -> list[str]:
    """The names in its history."""
    return [entry.event for entry in job.history]
