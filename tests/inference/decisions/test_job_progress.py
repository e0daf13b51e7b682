"""What becomes of shards and jobs, transition by transition; whole lives are in simulation/test_job_lives.py."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from inference.decisions import job_progress as progress
from inference.decisions.job_progress import TRANSITIONS, WANTED, Complete, Conflict, Fail, ProgressPolicy, Ready
from inference.job import (
    COMPLETED,
    ENDED,
    HISTORY_MAX,
    Dataset,
    Job,
    JobCounts,
    JobSpec,
    JobStatus,
    Output,
    RunSettings,
    Wanted,
)
from inference.shard import Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange, ShardState, Tally

POLICY = ProgressPolicy()
ANN, BOB = Owner("a", "boot", 1, "1"), Owner("b", "boot", 2, "1")
RETRY, WAIT, END = (ShardFailure(kind, "why", "It failed.") for kind in ("retry", "wait", "end"))
RANGE = ShardRange(0, 0, 10, ())
DONE = ShardOutcome(Tally(10))
PLANNED = JobCounts(4)
SPEC = JobSpec("m", Dataset(("a.csv",), "csv"), Output("o.csv"), run=RunSettings(max_error_rate=0.1))


def shard(state: ShardState = "ready", **facts: object) -> Shard:
    if state == "claimed":
        facts = {"owner": ANN, "lease_until_us": 60, "attempt": 1, **facts}
    return Shard("j", 0, "rows", state, range=RANGE, **facts)


def claim(attempt: int = 1) -> Claim:
    return Claim("j", 0, "rows", attempt, range=RANGE)


def job(status: JobStatus = "running", counts: JobCounts = PLANNED, **facts: object) -> Job:
    return Job("j", "", "m/1", "", SPEC, status, "run", counts, 0, **facts)


# ---- shards ----------------------------------------------------------------------------------------------------------


def test_every_state_is_left_and_reached_by_the_table_but_for_its_ends() -> None:
    states = set(get_args(ShardState))
    assert states - {state for state, _ in TRANSITIONS} == {"done"}
    assert states - set(TRANSITIONS.values()) == {"waiting"}


def test_what_the_table_does_not_list_cannot_happen() -> None:
    for state in ("waiting", "done", "failed"):
        with pytest.raises(AssertionError, match="claim cannot happen"):
            progress.claimed(shard(state), BOB, 0, 60, POLICY)


@pytest.mark.parametrize(
    ("given_shard", "expected"),
    [
        (shard(), True),
        (shard(ready_us=100), True),
        (shard(ready_us=101), False),
        (shard("claimed", lease_until_us=100), True),
        (shard("claimed", lease_until_us=101), False),
        (shard("claimed", lease_until_us=101, owner=BOB), True),
        *((shard(state), False) for state in ("waiting", "done", "failed")),
    ],
)
def test_claimable_at_100_with_a_dead_owner(given_shard: Shard, expected: bool) -> None:
    assert progress.claimable(given_shard, 100, dead=[BOB]) is expected


def test_a_claim_raises_the_attempt_and_a_loss_is_counted_where_somebody_had_it() -> None:
    first, given_claim = progress.claimed(shard(ready_us=7), ANN, 100, 60, POLICY)
    assert first == shard("claimed", lease_until_us=160)
    assert given_claim == claim()
    second, given_claim = progress.claimed(first, BOB, 200, 60, POLICY)
    assert second == shard("claimed", attempt=2, lost=1, owner=BOB, lease_until_us=260)
    assert given_claim == claim(2)


def test_care_begins_with_the_second_loss_and_the_eighth_ends_it() -> None:
    now = shard("claimed", attempt=1)
    for lost in range(1, 8):
        now, result = progress.claimed(now, ANN, 0, 60, POLICY)
        assert isinstance(result, Claim)
        assert (now.lost, result.careful) == (lost, lost >= 2)
    now, result = progress.claimed(now, ANN, 0, 60, POLICY)
    assert isinstance(result, Fail)
    assert (result.reason, now.state, now.lost, now.owner) == ("owner_lost", "failed", 8, None)
    assert "8 times at shard 0, the last time on a" in result.sentence


def test_a_shard_with_many_losses_that_nobody_holds_is_claimed_all_the_same() -> None:
    _, result = progress.claimed(shard(lost=7), ANN, 0, 60, POLICY)
    assert isinstance(result, Claim)


@pytest.mark.parametrize("now", [shard("claimed", attempt=2), shard(attempt=1), shard("done", attempt=1)])
def test_only_the_newest_claim_under_way_counts(now: Shard) -> None:
    assert progress.completed(now, claim(), DONE) is None
    assert progress.failed(now, claim(), END, 0, POLICY) is None
    assert progress.released(now, claim()) is None


def test_done() -> None:
    done = progress.completed(shard("claimed"), claim(), DONE)
    assert done == shard("done", attempt=1, lease_until_us=60, outcome=DONE)


def test_an_outcome_with_other_rows_than_the_shards_is_a_bug_that_is_not_let_in() -> None:
    with pytest.raises(AssertionError, match="shard 0 has 10 rows, and 9 were done"):
        progress.completed(shard("claimed"), claim(), ShardOutcome(Tally(9)))
    uncounted = replace(shard("claimed"), range=replace(RANGE, rows=None))
    assert progress.completed(uncounted, claim(), ShardOutcome(Tally(9))) is not None


def test_errors_are_repeated_after_1_5_and_25_seconds() -> None:
    now, delays = shard("claimed"), []
    while True:
        result = progress.failed(now, claim(now.attempt), RETRY, 100, POLICY)
        assert result is not None
        now, verdict = result
        if verdict is not None:
            break
        assert (now.state, now.owner, now.failure) == ("ready", None, RETRY)
        delays.append((now.ready_us - 100) / 1e6)
        now, _ = progress.claimed(now, ANN, now.ready_us, 60, POLICY)
    assert delays == [1, 5, 25]
    assert verdict == Fail("why", "Shard 0 failed 4 times, the last time so: It failed.")
    assert now.state == "failed"


def test_what_would_fail_again_is_not_repeated() -> None:
    result = progress.failed(shard("claimed"), claim(), END, 100, POLICY)
    assert result is not None
    assert (result[0].state, result[1]) == ("failed", Fail("why", "Shard 0 failed: It failed."))


def test_waiting_takes_longer_each_time_and_counts_nothing() -> None:
    now, delays = shard("claimed", lost=1, failures=1, attempt=3), []
    for _ in range(6):
        result = progress.failed(now, claim(now.attempt), WAIT, 100, POLICY)
        assert result is not None
        now, verdict = result
        assert (verdict, now.failures, now.lost) == (None, 1, 1)
        delays.append((now.ready_us - 100) / 1e6)
        now, _ = progress.claimed(now, ANN, now.ready_us, 60, POLICY)
    assert delays == [5, 10, 20, 40, 60, 60]


@given(st.integers(1, 10**6), st.integers(0, 7), st.integers(0, 3))
def test_a_wait_is_within_its_bounds_after_any_number_of_attempts(attempt: int, lost: int, failures: int) -> None:
    now = shard("claimed", attempt=attempt, lost=lost, failures=failures)
    result = progress.failed(now, claim(attempt), WAIT, 0, POLICY)
    assert result is not None
    assert POLICY.wait_first_us <= result[0].ready_us <= POLICY.wait_max_us


def test_what_is_given_back_is_as_before_but_for_its_attempt() -> None:
    free = progress.released(shard("claimed", lost=2, failures=1), claim())
    assert free == shard(attempt=1, lost=2, failures=1, lease_until_us=60)


def test_what_is_held_back_opened_freed_or_resumed_is_what_can_be() -> None:
    assert progress.held_back(shard(ready_us=5), 9) == shard(ready_us=9)
    assert progress.held_back(shard(ready_us=9), 5) == shard(ready_us=9)
    tried = progress.resumed(shard("failed", lost=8, failures=4, ready_us=5, attempt=9, failure=END))
    assert tried == shard(attempt=9, failure=END)
    assert progress.resumed(shard(lost=1, ready_us=5)) == shard()
    changes = {"claimed": progress.freed, "waiting": progress.opened}
    for state in get_args(ShardState):
        one = shard(state)
        assert (progress.held_back(one, 9) == one) is (state != "ready")
        if state not in ("ready", "failed"):
            assert progress.resumed(one) == one
        for own, change in changes.items():
            assert (change(one).state == "ready") is (state in (own, "ready"))


def test_a_plan() -> None:
    made = progress.planned("j", [RANGE, replace(RANGE, number=1)])
    assert [(one.number, one.kind, one.state) for one in made] == [
        (0, "rows", "ready"),
        (1, "rows", "ready"),
        (2, "finish", "waiting"),
    ]
    assert [(one.number, one.kind, one.state) for one in progress.planned("j", [])] == [(0, "finish", "ready")]
    with pytest.raises(AssertionError, match="not numbered"):
        progress.planned("j", [replace(RANGE, number=1)])


def test_a_lease_is_renewed_only_where_one_is() -> None:
    assert progress.renewed(shard("claimed"), 100, 60).lease_until_us == 160
    with pytest.raises(AssertionError, match="has no lease"):
        progress.renewed(shard(), 100, 60)


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (JobCounts(), None),
        (JobCounts(3, 1, 20, 10), None),
        (JobCounts(3, 2, 20, 20), Ready(2)),
        (JobCounts(3, 2, 20, 20, 2), Ready(2)),
        (JobCounts(3, 3, 20, 20), Complete("completed")),
        (JobCounts(3, 3, 20, 20, 2), Complete("completed_with_errors")),
        (JobCounts(3, 1, None, 10, 9), None),
        (JobCounts(1, 0, 0), Ready(0)),
        (JobCounts(1, 1, 0), Complete("completed")),
        (
            JobCounts(9, 1, 20, 10, 3),
            Fail("too_many_errors", "3 of 20 rows failed, more than the max_error_rate of 0.1 allows."),
        ),
    ],
)
def test_what_follows_from_the_counts(counts: JobCounts, expected: object) -> None:
    assert progress.after_commit(counts, SPEC) == expected


@given(st.integers(1, 10_000), st.integers(0, 100))
def test_a_rate_that_is_just_kept_is_no_failure_whatever_the_rounding(rows: int, per_cent: int) -> None:
    spec = replace(SPEC, run=RunSettings(max_error_rate=per_cent / 100))
    for failed in (rows * per_cent // 100, rows * per_cent // 100 + 1):
        verdict = progress.after_commit(JobCounts(3, 1, rows, 0, failed), spec)
        assert isinstance(verdict, Fail) is (failed * 100 > rows * per_cent)


def test_rows_and_reasons_are_added_up() -> None:
    counts = progress.counted(JobCounts(3), Tally(10, 2, {"a": 1, "b": 1}))
    assert counts == JobCounts(3, 1, None, 10, 2, {"a": 1, "b": 1})
    assert progress.counted(counts, Tally(5, 1, {"b": 1})) == JobCounts(3, 2, 15, 15, 3, {"a": 1, "b": 2})


def test_what_is_wanted_by_status() -> None:
    for status, wanted in product(get_args(JobStatus), get_args(Wanted)):
        result = progress.obeyed(job(status), wanted, 9)
        if (status, wanted) not in WANTED:
            assert isinstance(result, Conflict)
            continue
        assert isinstance(result, Job)
        assert result.status == WANTED[status, wanted]
        if result.status == status:
            assert result == job(status)
        else:
            assert (result.wanted, result.history[-1].at_us) == (wanted, 9)
            assert result.ended_us == (9 if result.status in ENDED else None)
    assert {status for status, _ in WANTED} == set(get_args(JobStatus)) - COMPLETED


def test_a_resume_that_would_fail_at_once_is_refused() -> None:
    failed = job("failed", JobCounts(4, 1, 10, 10, 3))
    refused = progress.obeyed(failed, "run", 9)
    assert isinstance(refused, Conflict)
    assert "0.1 allows. Give it a higher one." in refused.instead
    resumed = progress.obeyed(failed, "run", 9, RunSettings(max_error_rate=0.3))
    assert isinstance(resumed, Job)
    assert resumed.status == "queued"


def test_a_job_starts_once() -> None:
    first = progress.started(job("queued"), 5)
    assert (first.status, first.started_us) == ("running", 5)
    again = progress.started(replace(first, status="queued"), 9)
    assert (again.status, again.started_us) == ("running", 5)
    assert progress.started(job("paused"), 5) == job("paused")
    assert [progress.may_run(job(status)) for status in ("queued", "running", "paused", "failed")] == [1, 1, 0, 0]


def test_a_job_that_is_done_while_it_is_paused_is_done() -> None:
    paused = replace(job("paused", JobCounts(2, 1, 10, 10)), wanted="pause")
    finish = Shard("j", 1, "finish", "done", outcome=DONE)
    after, verdict = progress.committed(paused, finish, 9)
    assert verdict == Complete("completed")
    assert (after.status, after.wanted, after.ended_us, after.counts.rows_done) == ("completed", "run", 9, 10)


def test_what_it_waited_for_is_forgotten_with_the_next_part() -> None:
    waits = progress.after_failure(job(), shard(failure=WAIT), None, 9)
    assert (waits.reason, waits.sentence, waits.history[-1].event) == ("why", "It failed.", "waiting")
    assert progress.after_failure(waits, shard(failure=WAIT), None, 10) == waits
    after, verdict = progress.committed(waits, shard("done", outcome=DONE), 11)
    assert (after.reason, after.sentence, verdict) == ("", "", None)


def test_the_history_forgets_its_oldest() -> None:
    now = job()
    for number in range(HISTORY_MAX + 5):
        now = progress.noted(now, "retried", number, "x" * 500)
    assert (len(now.history), now.history[0].at_us, now.history[-1].at_us) == (HISTORY_MAX, 5, HISTORY_MAX + 4)
    assert len(now.history[-1].detail) == 200


def test_only_what_has_ended_is_deleted() -> None:
    assert [progress.deletable(job(status)) is None for status in ("queued", "paused", "failed", "completed")] == [
        False,
        False,
        True,
        True,
    ]
