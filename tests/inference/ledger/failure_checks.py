"""Failures: tried again, waited for, lost, given up. Part of the ledgers' contract."""

from __future__ import annotations

import pytest

from inference.decisions.job_progress import ProgressPolicy
from inference.job import RunSettings
from inference.job_errors import JobConflict
from inference.request import Priority
from inference.shard import Claim, ShardOutcome, Tally
from tests.inference.ledger.ledger_bench import (
    ANN,
    BOB,
    END,
    LEASE_US,
    RETRY,
    SECOND_US,
    WAIT,
    Bench,
    events,
    new_job,
    outcome,
    shard,
    start,
    states,
    take,
)


def check_errors_are_tried_again(bench: Bench) -> None:
    """After 1, 5 and 25 s; then the job fails, and nobody holds anything of it. A resume begins anew."""
    ledger = bench.ledger
    job_id = start(ledger, 2, new_job(identity="ab"))
    other = ledger.claim(BOB, 2, LEASE_US)[1]
    assert ledger.release(Claim(job_id, 0, "rows", 1))
    for delay_us in ProgressPolicy().retry_after_us:
        claim = take(ledger)
        assert ledger.fail(claim, RETRY)
        assert not ledger.fail(claim, RETRY)
        bench.pass_time(delay_us - SECOND_US // 2)
        assert ledger.claim(ANN, 1, LEASE_US) == []
        bench.pass_time(SECOND_US)
        ledger.renew(BOB, LEASE_US)
    assert shard(ledger, job_id, 0).failure == RETRY
    assert ledger.fail(take(ledger), RETRY)
    job = ledger.job(job_id)
    assert (job.status, job.reason) == ("failed", "read_failed")
    assert "failed 4 times" in job.sentence
    assert job.ended_us is not None
    assert states(ledger, job_id) == ["failed", "ready", "waiting"]
    assert not ledger.complete(other, outcome())
    assert events(job).count("retried") == 3
    resumed = ledger.want(job_id, "run")
    assert (resumed.status, resumed.reason, resumed.sentence, resumed.ended_us) == ("queued", "", "", None)
    claim = take(ledger)
    assert (claim.number, shard(ledger, job_id, 0).failures, shard(ledger, job_id, 0).lost) == (0, 0, 0)
    assert claim.attempt == 6


def check_what_would_fail_again_ends_the_job(bench: Bench) -> None:
    """Such as a changed input; also while it is planned."""
    ledger = bench.ledger
    assert ledger.create(new_job()) is not None
    assert ledger.fail(take(ledger), END)
    assert (ledger.job("job_1").status, ledger.job("job_1").reason) == ("failed", "input_changed")
    assert END.sentence in ledger.job("job_1").sentence
    assert ledger.claim(ANN, 1, LEASE_US) == []
    ledger.want("job_1", "run")
    assert take(ledger).attempt == 2


def check_waiting_is_nobodys_fault(bench: Bench) -> None:
    """However often; meanwhile nothing of the job is claimed, and it says what it waits for."""
    ledger = bench.ledger
    job_id = start(ledger, 3)
    for round_number in range(12):
        delay_us = min(5 * SECOND_US << round_number, 60 * SECOND_US)
        assert ledger.fail(take(ledger), WAIT)
        assert (ledger.job(job_id).status, ledger.job(job_id).reason) == ("running", "store_full")
        bench.pass_time(delay_us - SECOND_US // 2)
        assert ledger.claim(ANN, 1, LEASE_US) == []
        bench.pass_time(SECOND_US)
    assert shard(ledger, job_id, 0).failures == 0
    assert events(ledger.job(job_id)).count("waiting") == 1
    assert ledger.complete(take(ledger), outcome())
    assert (ledger.job(job_id).reason, ledger.job(job_id).sentence) == ("", "")


def check_a_shard_that_takes_its_workers_along(bench: Bench) -> None:
    """It is claimed with care from the second loss on, and fails the job with the eighth; the next job is served."""
    ledger = bench.ledger
    start(ledger, 2, new_job("job_1", run=RunSettings(Priority.CRITICAL)))
    start(ledger, 1, new_job("job_2"))
    seen = []
    for _ in range(8):
        claim = take(ledger)
        seen.append((claim.job_id, claim.number, claim.careful))
        bench.pass_time(LEASE_US + SECOND_US)
    assert seen == [("job_1", 0, n >= 2) for n in range(8)]
    assert take(ledger).job_id == "job_2"
    job = ledger.job("job_1")
    assert (job.status, job.reason) == ("failed", "owner_lost")
    assert events(job).count("owner_lost") == 8
    assert shard(ledger, "job_1", 0).lost == 8
    ledger.want("job_1", "run")
    again = take(ledger)
    assert (again.job_id, again.number, again.attempt, again.careful) == ("job_1", 0, 9, False)


def check_too_many_bad_rows(bench: Bench) -> None:
    """The job fails as soon as it is sure; a resume needs a rate that allows what there is."""
    ledger = bench.ledger
    job_id = start(ledger, 4, new_job(run=RunSettings(max_error_rate=0.05)))
    first, second, third = ledger.claim(ANN, 3, LEASE_US)
    assert ledger.complete(first, outcome(failed=2))
    assert ledger.job(job_id).status == "running"
    assert ledger.complete(second, outcome(failed=1))
    job = ledger.job(job_id)
    assert (job.status, job.reason, job.counts.rows_failed) == ("failed", "too_many_errors", 3)
    assert "3 of 40 rows" in job.sentence
    assert not ledger.complete(third, outcome())
    with pytest.raises(JobConflict, match=r"cannot be resumed: it is failed.*0\.05"):
        ledger.want(job_id, "run")
    ledger.want(job_id, "run", RunSettings(max_error_rate=0.075))
    assert ledger.job(job_id).spec.run.max_error_rate == 0.075
    for _ in range(2):
        assert ledger.complete(take(ledger), outcome())
    assert take(ledger).kind == "finish"


def check_too_many_bad_rows_with_the_last_shard(bench: Bench) -> None:
    """Resumed with a higher rate, the job has only to be finished."""
    ledger = bench.ledger
    job_id = start(ledger, 1)
    assert ledger.complete(take(ledger), outcome(failed=1))
    assert (ledger.job(job_id).status, states(ledger, job_id)) == ("failed", ["done", "waiting"])
    ledger.want(job_id, "run", RunSettings(max_error_rate=1))
    assert ledger.complete(take(ledger), ShardOutcome(Tally(10, 1)))
    assert ledger.job(job_id).status == "completed_with_errors"
