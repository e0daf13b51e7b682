"""What is wanted of a job: pause, resume, cancel, other settings. Part of the ledgers' contract."""

from __future__ import annotations

import pytest

from inference.job import RunSettings, Wanted
from inference.job_errors import JobConflict
from inference.ledger.ledger import JobQuery
from inference.request import Priority
from inference.shard import ShardOutcome, Tally
from tests.inference.ledger.ledger_bench import (
    ANN,
    BOB,
    LEASE_US,
    Bench,
    events,
    new_job,
    outcome,
    start,
    take,
)


def check_a_pause(bench: Bench) -> None:
    """What is under way counts; nothing more is claimed until it is resumed."""
    ledger = bench.ledger
    job_id = start(ledger, 3)
    claim, other = take(ledger), take(ledger)
    assert ledger.want(job_id, "pause").status == "paused"
    assert ledger.want(job_id, "pause").status == "paused"
    assert ledger.claim(BOB, 1, LEASE_US) == []
    assert ledger.claim(BOB, 1, LEASE_US, job_id, dead=[ANN]) == []
    assert ledger.complete(claim, outcome())
    assert ledger.job(job_id).counts.rows_done == 10
    assert ledger.release(other)
    assert ledger.want(job_id, "run").status == "queued"
    assert take(ledger).number == 1
    assert ledger.job(job_id).status == "running"
    assert events(ledger.job(job_id))[-2:] == ["paused", "resumed"]


def check_a_cancel(bench: Bench) -> None:
    """Nobody holds anything any more; what is done stays done when it is resumed."""
    ledger = bench.ledger
    job_id = start(ledger, 2)
    assert ledger.complete(take(ledger), outcome())
    claim = take(ledger)
    cancelled = ledger.want(job_id, "cancel")
    assert (cancelled.status, cancelled.reason, cancelled.ended_us is not None) == ("cancelled", "cancelled", True)
    assert ledger.want(job_id, "cancel") == cancelled
    assert ledger.owners() == []
    assert not ledger.complete(claim, outcome())
    assert ledger.claim(ANN, 1, LEASE_US) == []
    assert ledger.want(job_id, "run").status == "queued"
    again = take(ledger)
    assert (again.number, again.attempt) == (1, 2)
    assert not ledger.complete(claim, outcome())
    assert ledger.complete(again, outcome())
    assert ledger.job(job_id).counts.rows_done == 20


def check_a_cancel_while_the_output_is_made(bench: Bench) -> None:
    """It stays cancelled whoever finishes late; resumed, the output is made again."""
    ledger = bench.ledger
    job_id = start(ledger, 1)
    assert ledger.complete(take(ledger), outcome())
    late = take(ledger)
    ledger.want(job_id, "cancel")
    assert not ledger.complete(late, ShardOutcome(Tally(10)))
    assert ledger.job(job_id).status == "cancelled"
    ledger.want(job_id, "run")
    assert ledger.complete(take(ledger), ShardOutcome(Tally(10)))
    assert ledger.job(job_id).status == "completed"


def check_what_a_state_rules_out(bench: Bench) -> None:
    """It is refused by name, and changes nothing."""
    ledger = bench.ledger
    job_id = start(ledger, 0)
    assert ledger.complete(take(ledger), ShardOutcome(Tally(0)))
    done = ledger.job(job_id)
    wanted: tuple[Wanted, ...] = ("run", "pause", "cancel")
    for one in wanted:
        with pytest.raises(JobConflict, match="it is completed"):
            ledger.want(job_id, one)
    assert ledger.job(job_id) == done
    assert ledger.create(new_job("job_2")) is not None
    ledger.want("job_2", "cancel")
    with pytest.raises(JobConflict, match="cannot be paused: it is cancelled"):
        ledger.want("job_2", "pause")
    ledger.delete("job_2")


def check_other_run_settings(bench: Bench) -> None:
    """They hold from now on, also for a job that runs."""
    ledger = bench.ledger
    start(ledger, 2, new_job("job_a"))
    start(ledger, 2, new_job("job_b"))
    assert take(ledger).job_id == "job_a"
    ledger.want("job_b", "run", RunSettings(Priority.HIGH, batch_rows=7))
    assert ledger.job("job_b").spec.run == RunSettings(Priority.HIGH, batch_rows=7)
    assert ledger.job("job_b").status == "running"
    assert take(ledger).job_id == "job_b"
    assert [job.id for job in ledger.jobs(JobQuery(priority=Priority.HIGH)).jobs] == ["job_b"]
