"""What becomes of a job and its shards. Pure: structs in, structs out, `now_us` by the ledger's clock.

A ledger loads rows, asks here, and stores what it is told, all in one transaction; so every ledger goes by the same
table. Each claim raises a shard's `attempt`, and a claim counts only while its attempt is the newest and under way:
that alone fences, whoever wakes up late. A job that has ended has no shard under way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from inference.job import (
    COMPLETED,
    ENDED,
    HISTORY_MAX,
    HistoryEntry,
    Job,
    JobCounts,
    JobSpec,
    JobStatus,
    RunSettings,
    Wanted,
)
from inference.shard import PLAN_NUMBER, Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange, ShardState, Tally

ShardEvent = Literal["open", "claim", "complete", "again", "give_up", "release", "resume"]

# Events that are not listed for a state cannot happen in it.
TRANSITIONS: Mapping[tuple[ShardState, ShardEvent], ShardState] = {
    ("waiting", "open"): "ready",
    ("ready", "claim"): "claimed",
    ("claimed", "claim"): "claimed",  # its owner is dead or let the lease end
    ("claimed", "complete"): "done",
    ("claimed", "again"): "ready",
    ("claimed", "give_up"): "failed",
    ("claimed", "release"): "ready",
    ("ready", "resume"): "ready",
    ("failed", "resume"): "ready",
}

# What is not listed is refused; asking for what holds already changes nothing.
WANTED: Mapping[tuple[JobStatus, Wanted], JobStatus] = {
    ("queued", "run"): "queued",
    ("queued", "pause"): "paused",
    ("queued", "cancel"): "cancelled",
    ("running", "run"): "running",
    ("running", "pause"): "paused",
    ("running", "cancel"): "cancelled",
    ("paused", "run"): "queued",
    ("paused", "pause"): "paused",
    ("paused", "cancel"): "cancelled",
    ("failed", "run"): "queued",
    ("cancelled", "run"): "queued",
    ("cancelled", "cancel"): "cancelled",
}
_PARTICIPLE: Mapping[Wanted, str] = {"run": "resumed", "pause": "paused", "cancel": "cancelled"}
_DETAIL_CHARS_MAX = 200  # of an entry of the history; 1,000 of them take 250 kB at most


class ProgressPolicy(msgspec.Struct, frozen=True):
    """How often an attempt at a shard is repeated, and after which time in microseconds."""

    retry_after_us: tuple[int, ...] = (1_000_000, 5_000_000, 25_000_000)
    wait_first_us: int = 5_000_000  # doubles up to the longest
    wait_max_us: int = 60_000_000
    careful_losses: int = 2  # from this loss on the model runs in a process of its own
    losses_max: int = 8


class Ready(msgspec.Struct, frozen=True):
    """All rows are there: the shard of this number, which finishes the output, may be claimed."""

    number: int


class Fail(msgspec.Struct, frozen=True):
    """The job fails."""

    reason: str
    sentence: str


class Complete(msgspec.Struct, frozen=True):
    """The job has its output."""

    status: JobStatus


class Conflict(msgspec.Struct, frozen=True):
    """The job's status rules out that it is `action`, such as paused; `instead` says what helps."""

    action: str
    instead: str


Verdict = Ready | Fail | Complete


# ---- one shard -------------------------------------------------------------------------------------------------------


def planned(job_id: str, ranges: Sequence[ShardRange]) -> list[Shard]:
    """The shards that a plan makes: those that hold rows, and the one that finishes, which waits for them."""
    numbers = [one.number for one in ranges]
    assert numbers == list(range(len(ranges))), f"shards of {job_id} are not numbered from 0 on"
    rows = [Shard(job_id, one.number, "rows", "ready", range=one) for one in ranges]
    return [*rows, Shard(job_id, len(rows), "finish", "waiting" if rows else "ready")]


def plan_shard(job_id: str) -> Shard:
    """The only shard of a job that is new."""
    return Shard(job_id, PLAN_NUMBER, "plan", "ready")


def claimable(shard: Shard, now_us: int, dead: Collection[Owner] = ()) -> bool:
    """Whether somebody may take it now. `dead` owners have lost what they hold, whatever their leases say."""
    if shard.state == "claimed":
        return shard.lease_until_us <= now_us or shard.owner in dead
    return shard.state == "ready" and shard.ready_us <= now_us


def claimed(
    shard: Shard, owner: Owner, now_us: int, lease_us: int, policy: ProgressPolicy
) -> tuple[Shard, Claim | Fail]:
    """Take a claimable shard; from somebody who lost it that is one loss more, and one too many fails the job."""
    lost = shard.lost + (shard.state == "claimed")
    if lost > shard.lost and lost >= policy.losses_max:
        name, host = _named(shard), shard.owner.host if shard.owner else ""
        sentence = (
            f"The worker was lost {lost} times at {name}, the last time on {host}. Look there for the memory that it "
            "had and for what ended it, then resume the job."
        )
        failure = ShardFailure("end", "owner_lost", sentence)
        return _moved(shard, "give_up", lost=lost, failure=failure, owner=None), Fail("owner_lost", sentence)
    now = _moved(
        shard, "claim", attempt=shard.attempt + 1, lost=lost, owner=owner, lease_until_us=now_us + lease_us, ready_us=0
    )
    careful = lost >= policy.careful_losses
    return now, Claim(now.job_id, now.number, now.kind, now.attempt, careful, now.range)


def renewed(shard: Shard, now_us: int, lease_us: int) -> Shard:
    """A shard that its owner keeps; also after the end of the lease, if nobody took it."""
    assert shard.state == "claimed", f"{_named(shard)} of {shard.job_id} is {shard.state} and has no lease"
    return replace(shard, lease_until_us=now_us + lease_us)


def is_newest(shard: Shard, claim: Claim) -> bool:
    """Whether this claim is the one under way."""
    return shard.state == "claimed" and shard.attempt == claim.attempt


def completed(shard: Shard, claim: Claim, outcome: ShardOutcome | None) -> Shard | None:
    """The shard done; None if the claim is no longer the newest. A plan has no outcome."""
    if not is_newest(shard, claim):
        return None
    if shard.kind == "rows":
        assert shard.range is not None, f"{_named(shard)} of {shard.job_id} has no range"
        assert outcome is not None, f"{_named(shard)} of {shard.job_id} has no outcome"
        rows = outcome.tally.rows_in
        assert shard.range.rows in (None, rows), f"{_named(shard)} has {shard.range.rows} rows, and {rows} were done"
    return _moved(shard, "complete", owner=None, outcome=outcome)


def failed(
    shard: Shard, claim: Claim, failure: ShardFailure, now_us: int, policy: ProgressPolicy
) -> tuple[Shard, Fail | None] | None:
    """The shard tried again later, or given up with what its job fails for; None: the claim is not the newest."""
    if not is_newest(shard, claim):
        return None
    failures = shard.failures + (failure.kind == "retry")
    if failure.kind == "end" or failures > len(policy.retry_after_us):
        times = f"failed {failures} times, the last time so" if failure.kind == "retry" else "failed"
        given_up = _moved(shard, "give_up", owner=None, failures=failures, failure=failure)
        return given_up, Fail(failure.reason, f"{_named(shard).capitalize()} {times}: {failure.sentence}")
    if failure.kind == "wait":
        # Attempts that are neither lost nor failed have waited, so the delay needs no count of its own.
        waits = shard.attempt - shard.lost - shard.failures - 1
        delay_us = min(policy.wait_first_us << min(max(waits, 0), 16), policy.wait_max_us)
    else:
        delay_us = policy.retry_after_us[failures - 1]
    return _moved(shard, "again", owner=None, failures=failures, failure=failure, ready_us=now_us + delay_us), None


def released(shard: Shard, claim: Claim) -> Shard | None:
    """The shard as it was before, but for its attempt, which is never used again; None: the claim is not the newest."""
    return freed(shard) if is_newest(shard, claim) else None


def freed(shard: Shard) -> Shard:
    """A claimed shard without its owner, as all of a job that ends become; others as they are."""
    return _moved(shard, "release", owner=None) if shard.state == "claimed" else shard


def held_back(shard: Shard, ready_us: int) -> Shard:
    """A ready shard not before this time: what one of a job waits for, such as room in its store, is there for none."""
    return replace(shard, ready_us=ready_us) if shard.state == "ready" and shard.ready_us < ready_us else shard


def opened(shard: Shard) -> Shard:
    """The shard that finishes, once all rows are there; others as they are."""
    return _moved(shard, "open") if shard.state == "waiting" else shard


def resumed(shard: Shard) -> Shard:
    """A shard that is ready or failed, as if nobody had tried it, but for its attempt; others as they are."""
    if shard.state not in ("ready", "failed"):
        return shard
    return _moved(shard, "resume", lost=0, failures=0, ready_us=0)


# ---- the job ---------------------------------------------------------------------------------------------------------


def after_commit(counts: JobCounts, spec: JobSpec) -> Verdict | None:
    """What follows from the counts: too many failed rows, all rows there, everything there, or nothing yet."""
    total, allowed = counts.rows_total, spec.run.max_error_rate
    if total and counts.rows_failed / total > allowed:
        sentence = f"{counts.rows_failed} of {total} rows failed, more than the max_error_rate of {allowed:g} allows."
        return Fail("too_many_errors", sentence)
    if not counts.shards or counts.shards_done < counts.shards - 1:
        return None
    if counts.shards_done == counts.shards - 1:
        return Ready(counts.shards - 1)
    return _complete(counts)


def counted(counts: JobCounts, tally: Tally) -> JobCounts:
    """The counts with one more shard that holds rows; with the last one the total is known."""
    reasons = dict(counts.failed_by_reason)
    for reason, rows in tally.failed_by_reason.items():
        reasons[reason] = reasons.get(reason, 0) + rows
    shards_done, rows_done = counts.shards_done + 1, counts.rows_done + tally.rows_in
    total = rows_done if counts.rows_total is None and shards_done == counts.shards - 1 else counts.rows_total
    rows_failed = counts.rows_failed + tally.rows_failed
    return JobCounts(counts.shards, shards_done, total, rows_done, rows_failed, reasons)


def may_run(job: Job) -> bool:
    """Whether shards of the job may be claimed."""
    return job.status in ("queued", "running") and job.wanted == "run"


def started(job: Job, now_us: int) -> Job:
    """The job once somebody works at it."""
    if job.status != "queued":
        return job
    return replace(job, status="running", started_us=now_us if job.started_us is None else job.started_us)


def plan_committed(job: Job, shards: Sequence[Shard], rows_total: int | None, now_us: int) -> Job:
    """The job with the counts of its plan; `shards` are those of `planned`."""
    total = 0 if rows_total is None and len(shards) == 1 else rows_total
    counts = JobCounts(shards=len(shards), rows_total=total)
    rows = "an unknown number of rows" if total is None else f"{total} rows"
    return noted(replace(_works(job, now_us), counts=counts), "planned", now_us, f"{len(shards) - 1} shards, {rows}")


def committed(job: Job, shard: Shard, now_us: int) -> tuple[Job, Verdict | None]:
    """The job after a shard is done that holds rows or finishes, and what follows; it has ended with all but Ready."""
    assert shard.state == "done", f"{_named(shard)} of {job.id} is {shard.state}"
    if shard.kind == "rows":
        assert shard.outcome is not None, f"{_named(shard)} of {job.id} has no outcome"
        counts = counted(job.counts, shard.outcome.tally)
    else:
        counts = replace(job.counts, shards_done=job.counts.shards_done + 1)
    job = replace(_works(job, now_us), counts=counts)
    # The failed rows were judged before the output was made; made it stays, whatever has changed since.
    verdict = _complete(counts) if shard.kind == "finish" else after_commit(counts, job.spec)
    return (job if verdict is None or isinstance(verdict, Ready) else ended(job, verdict, now_us)), verdict


def after_failure(job: Job, shard: Shard, verdict: Fail | None, now_us: int) -> Job:
    """The job after `failed` gave this; it says what it waits for until a shard is done."""
    failure = shard.failure
    assert failure is not None, f"{_named(shard)} of {job.id} has not failed"
    if verdict is not None:
        return ended(job, verdict, now_us)
    if failure.kind == "retry":
        return noted(job, "retried", now_us, f"{_named(shard)}: {failure.reason}")
    if job.reason == failure.reason:
        return job
    job = replace(job, reason=failure.reason, sentence=failure.sentence)
    return noted(job, "waiting", now_us, f"{_named(shard)}: {failure.reason}")


def after_claim(job: Job, before: Shard, result: Claim | Fail, now_us: int) -> Job:
    """The job after `claimed` took the shard that was `before`."""
    if before.state == "claimed":
        job = noted(job, "owner_lost", now_us, f"{_named(before)}: {before.owner}")
    return ended(job, result, now_us) if isinstance(result, Fail) else started(job, now_us)


def ended(job: Job, verdict: Fail | Complete, now_us: int) -> Job:
    """The job with its end; its ledger frees what is claimed."""
    if isinstance(verdict, Fail):
        job = replace(job, status="failed", ended_us=now_us, reason=verdict.reason, sentence=verdict.sentence)
    else:
        job = replace(job, status=verdict.status, wanted="run", ended_us=now_us, reason="", sentence="")
    return noted(job, "ended", now_us, job.reason or job.status)


def obeyed(job: Job, wanted: Wanted, now_us: int, run: RunSettings | None = None) -> Job | Conflict:
    """The job once this is wanted of it, with other run settings if they are given.

    What its ledger does besides where the status changed: one that has ended has what is claimed freed; one that is
    queued has its shards `resumed`, and where `after_commit` says Ready that one `opened`.
    """
    action = _PARTICIPLE[wanted]
    status = WANTED.get((job.status, wanted))
    if status is None:
        instead = "Its output is there." if job.status in COMPLETED else "Resume or delete it."
        return Conflict(action, instead)
    now = job if run is None else replace(job, spec=replace(job.spec, run=run))
    if wanted == "run" and isinstance(verdict := after_commit(now.counts, now.spec), Fail):
        return Conflict(action, f"{verdict.sentence} Give it a higher one.")
    if status == job.status:
        return now
    now = replace(now, status=status, wanted=wanted, ended_us=now_us if status in ENDED else None)
    if wanted != "pause":
        now = replace(now, reason="cancelled" if status == "cancelled" else "", sentence="")
    return noted(now, "ended" if status in ENDED else action, now_us, now.reason)


def deletable(job: Job) -> Conflict | None:
    """None if the job may be forgotten."""
    return None if job.status in ENDED else Conflict("deleted", "Cancel it first.")


def noted(job: Job, event: str, now_us: int, detail: str = "") -> Job:
    """The job with one entry more in its history; the oldest go."""
    entry = HistoryEntry(now_us, event, detail[:_DETAIL_CHARS_MAX])
    return replace(job, history=(*job.history[-(HISTORY_MAX - 1) :], entry))


# ---- inside ----------------------------------------------------------------------------------------------------------


def _moved(shard: Shard, event: ShardEvent, **changes: object) -> Shard:
    """The shard after an event of the table."""
    state = TRANSITIONS.get((shard.state, event))
    assert state is not None, f"{_named(shard)} of {shard.job_id} is {shard.state}: {event} cannot happen"
    return replace(shard, state=state, **changes)


def _works(job: Job, now_us: int) -> Job:
    """A job that something was committed of waits for nothing."""
    job = started(job, now_us)
    return replace(job, reason="", sentence="") if job.reason else job


def _complete(counts: JobCounts) -> Complete:
    return Complete("completed_with_errors" if counts.rows_failed else "completed")


def _named(shard: Shard) -> str:
    """How people call it."""
    return {"plan": "the plan", "finish": "the finish"}.get(shard.kind, f"shard {shard.number}")
