"""Jobs: one whole life, identities, schedules, pages, what is not known. Part of the ledgers' contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from inference.errors import InvalidValues
from inference.job import RunSettings
from inference.job_errors import JobConflict, JobNotFound
from inference.ledger.ledger import JobQuery
from inference.request import Priority
from inference.shard import ShardOutcome, Tally
from tests.inference.ledger.ledger_bench import (
    ANN,
    BOB,
    LEASE_US,
    RETRY,
    SECOND_US,
    Bench,
    events,
    new_job,
    outcome,
    ranges,
    shard,
    start,
    states,
    take,
)


def check_a_life(bench: Bench) -> None:
    """From its creation to its end, with what is counted on the way."""
    ledger = bench.ledger
    made = ledger.create(new_job(identity="ab", run=RunSettings(Priority.HIGH, max_error_rate=0.5)))
    assert made is not None
    assert made == ledger.job("job_1") == ledger.find("ab") == bench.peer.job("job_1")
    assert (made.status, made.wanted, made.model, made.model_sha256) == ("queued", "run", "m/1", "5ha")
    assert abs(made.created_us - ledger.now_us()) < LEASE_US
    assert made.spec.run.priority is Priority.HIGH
    bench.pass_time(SECOND_US)
    plan = take(ledger)
    running = ledger.job("job_1")
    assert (running.status, running.started_us is not None) == ("running", True)
    assert ledger.complete_plan(plan, ranges(2), 20)
    assert [one.number for one in ledger.shards("job_1", -1, 9)] == [-1, 0, 1, 2]
    assert shard(ledger, "job_1", -1).state == "done"
    first, second = ledger.claim(ANN, 5, LEASE_US)
    assert (first.number, second.number, first.kind, first.attempt, first.careful) == (0, 1, "rows", 1, False)
    assert (first.range, second.range) == tuple(ranges(2))
    assert ledger.complete(second, outcome(failed=1))
    assert states(ledger, "job_1") == ["claimed", "done", "waiting"]
    assert ledger.complete(first, outcome())
    assert states(ledger, "job_1") == ["done", "done", "ready"]
    counts = ledger.job("job_1").counts
    assert (counts.shards, counts.shards_done) == (3, 2)
    assert (counts.rows_total, counts.rows_done, counts.rows_failed) == (20, 20, 1)
    assert dict(counts.failed_by_reason) == {"not_finite": 1}
    assert shard(ledger, "job_1", 1).outcome == outcome(failed=1)
    last = take(ledger, BOB)
    assert (last.number, last.kind) == (2, "finish")
    assert ledger.complete(last, ShardOutcome(Tally(20, 1, {"not_finite": 1})))
    job = ledger.job("job_1")
    assert (job.status, job.counts.shards_done, job.counts.rows_done) == ("completed_with_errors", 3, 20)
    assert job.ended_us is not None
    assert events(job) == ["created", "planned", "ended"]
    assert ledger.claim(ANN, 1, LEASE_US) == []
    assert ledger.owners() == []


def check_an_empty_dataset(bench: Bench) -> None:
    """It is finished at once, with the total known."""
    ledger = bench.ledger
    start(ledger, 0, rows=None)
    assert take(ledger).kind == "finish"
    assert ledger.job("job_1").counts.rows_total == 0


def check_a_total_that_is_known_at_the_end(bench: Bench) -> None:
    """Rows that nobody counted are counted when they are done."""
    ledger = bench.ledger
    start(ledger, 2, new_job(run=RunSettings(max_error_rate=0.2)), rows=None)
    assert ledger.complete(take(ledger), outcome(7, failed=3))
    assert ledger.job("job_1").counts.rows_total is None
    assert ledger.job("job_1").status == "running"
    assert ledger.complete(take(ledger), outcome(8))
    assert (ledger.job("job_1").status, ledger.job("job_1").counts.rows_total) == ("running", 15)
    assert take(ledger).kind == "finish"


def check_one_identity_makes_one_job(bench: Bench) -> None:
    """Two commands started at once; a completed job stands in nobody's way, and a schedule's jobs are its own."""
    ledger = bench.ledger
    assert ledger.create(new_job("job_1", "ab")) == bench.peer.create(new_job("job_2", "ab"))
    with pytest.raises(JobNotFound):
        ledger.job("job_2")
    ledger.want("job_1", "cancel")
    resumable = ledger.create(new_job("job_3", "ab"))
    assert resumable is not None
    assert resumable.id == "job_1"
    ledger.want("job_1", "run")
    assert ledger.complete_plan(take(ledger), [], 0)
    assert ledger.complete(take(ledger), ShardOutcome(Tally(0)))
    bench.pass_time(SECOND_US)
    again = ledger.create(new_job("job_4", "ab"))
    assert again is not None
    assert (again.id, ledger.find("ab")) == ("job_4", again)
    fired = ledger.create(new_job("job_5", "ab", schedule="nightly", fire_us=1))
    assert fired is not None
    assert (fired.id, fired.schedule) == ("job_5", "nightly")
    for number in (6, 7):
        assert ledger.create(new_job(f"job_{number}", "")) is not None
    assert ledger.find("") is None
    assert ledger.find("cd") is None


def check_a_schedule_fires_once_for_a_time(bench: Bench) -> None:
    """Whichever server it is."""
    ledger = bench.ledger
    assert ledger.create(new_job("job_1", schedule="nightly", fire_us=5)) is not None
    assert bench.peer.create(new_job("job_2", schedule="nightly", fire_us=5)) is None
    assert bench.peer.create(new_job("job_3", schedule="nightly", fire_us=6)) is not None
    assert ledger.create(new_job("job_4", schedule="hourly", fire_us=5)) is not None
    assert ledger.create(new_job("job_5")) is not None
    assert ledger.create(new_job("job_6")) is not None
    assert sorted(job.id for job in ledger.jobs(JobQuery()).jobs) == ["job_1", "job_3", "job_4", "job_5", "job_6"]


def check_pages_and_filters(bench: Bench) -> None:
    """Newest first; a page goes on where the last one ended, whatever came meanwhile."""
    ledger = bench.ledger
    times = []
    for number in range(5):
        priority = Priority.LOW if number % 2 else Priority.NORMAL
        made = ledger.create(new_job(f"job_{number}", run=RunSettings(priority), schedule="s" if number == 4 else ""))
        assert made is not None
        times.append(made.created_us)
        bench.pass_time(SECOND_US)
    ledger.want("job_2", "pause")
    times = [ledger.job(f"job_{number}").created_us for number in range(5)]

    def ids(**query: object) -> list[str]:
        return [job.id for job in ledger.jobs(JobQuery(**query)).jobs]

    first = ledger.jobs(JobQuery(count=2))
    assert [job.id for job in first.jobs] == ["job_4", "job_3"]
    assert ledger.create(new_job("job_9")) is not None
    second = ledger.jobs(JobQuery(count=2, after=first.next))
    assert [job.id for job in second.jobs] == ["job_2", "job_1"]
    third = ledger.jobs(JobQuery(count=2, after=second.next))
    assert ([job.id for job in third.jobs], third.next) == (["job_0"], None)
    assert ids(statuses=("paused",)) == ["job_2"]
    assert ids(statuses=("paused", "queued"), priority=Priority.NORMAL) == ["job_9", "job_4", "job_2", "job_0"]
    assert ids(priority=Priority.LOW) == ["job_3", "job_1"]
    assert ids(schedule="s") == ["job_4"]
    assert ids(model_name="m", count=1) == ["job_9"]
    assert ids(model_name="other") == []
    assert ids(created_from_us=times[1], created_to_us=times[3]) == ["job_2", "job_1"]
    assert ledger.jobs(JobQuery(model_name="other")).next is None
    with pytest.raises(InvalidValues, match="after"):
        ledger.jobs(JobQuery(after="job_1"))


def check_what_is_not_known(bench: Bench) -> None:
    """It is said by name; what only looks finds nothing."""
    ledger = bench.ledger
    calls: Sequence[Callable[[], object]] = (
        lambda: ledger.job("job_9"),
        lambda: ledger.shards("job_9", 0, 1),
        lambda: ledger.want("job_9", "pause"),
        lambda: ledger.delete("job_9"),
    )
    for call in calls:
        with pytest.raises(JobNotFound, match="job_9"):
            call()
    assert ledger.claim(ANN, 1, LEASE_US, "job_9") == []
    assert ledger.renew(ANN, LEASE_US).held == frozenset()


def check_deleting(bench: Bench) -> None:
    """Only what has ended; a claim of a job that is gone changes nothing."""
    ledger = bench.ledger
    job_id = start(ledger)
    claim = take(ledger)
    with pytest.raises(JobConflict, match="cannot be deleted: it is running"):
        ledger.delete(job_id)
    ledger.want(job_id, "cancel")
    ledger.delete(job_id)
    with pytest.raises(JobNotFound):
        ledger.job(job_id)
    assert not ledger.complete(claim, outcome())
    assert not ledger.fail(claim, RETRY)
    assert not ledger.release(claim)
