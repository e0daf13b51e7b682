"""Hundreds of lives of jobs and their workers; and bugs planted into what decides them, all of which are caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from msgspec.structs import replace

from inference.decisions import job_progress as progress
from inference.job import Job, JobCounts
from inference.ledger.ledger import Renewal
from inference.ledger.memory_ledger import MemoryLedger
from inference.shard import Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange
from tests.inference.simulation.job_life import JobLife

LIVES = 240
PLANTED_LIVES = 120


def live(seeds: Iterable[int], make: type[MemoryLedger] = MemoryLedger) -> Counter[str]:
    """Live them all; a failure names its seed."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen += JobLife(seed, make).run().seen
        except AssertionError as broken:
            again = f"python -m tests.inference.simulation.job_life {seed}"
            raise AssertionError(f"seed {seed}: {broken} (to see it: {again})") from broken
    return seen


@pytest.mark.parametrize("part", range(4))
def test_no_row_is_lost_or_doubled_whatever_happens(part: int) -> None:
    live(range(part, LIVES, 4))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_thousands_of_lives(part: int) -> None:
    live(range(10_000 + 300 * part, 10_000 + 300 * (part + 1)))


def test_the_lives_hold_all_that_they_are_meant_to() -> None:
    seen = live(range(50))
    places = ("at the claim", "while it reads", "before the rename", "before the commit", "after the commit")
    expected = [
        *(f"died {place}" for place in (*places, "with its machine")),
        *(f"{kind} {end}" for kind in ("plan", "rows", "finish") for end in ("done", "late")),
        *("failed, retry", "failed, wait", "failed, end", "failed late", "released", "careful", "slept", "clock"),
        *("running, pause", "running, cancel", "queued, pause", "paused, run", "cancelled, run", "failed, run"),
        *("failed of too_many_errors", "failed of why_end", "refused", "deleted"),
    ]
    assert [name for name in expected if not seen[name]] == []


def test_a_life_can_be_lived_again() -> None:
    first, second = JobLife(3).run(), JobLife(3).run()
    assert (first.seen, first.now_s, first.outputs) == (second.seen, second.now_s, second.outputs)


# ---- planted bugs ----------------------------------------------------------------------------------------------------


def caught(match: str, make: type[MemoryLedger] = MemoryLedger) -> None:
    """Within few lives, with its seed."""
    with pytest.raises(AssertionError, match=rf"seed \d+: .*({match})"):
        live(range(PLANTED_LIVES), make)


Plant = Callable[[str, Callable[..., object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Puts another function in place of one of job_progress."""
    return lambda name, function: monkeypatch.setattr(progress, name, function)


def test_an_attempt_that_is_given_twice(plant: Plant) -> None:
    claimed = progress.claimed

    def reuses(shard: Shard, *rest: object) -> tuple[Shard, Claim | progress.Fail]:
        lost = shard.state == "claimed"
        return claimed(replace(shard, attempt=shard.attempt - 1) if lost else shard, *rest)

    plant("claimed", reuses)
    caught("was given twice")


def test_a_late_worker_that_counts(plant: Plant) -> None:
    plant("is_newest", lambda shard, claim: shard.state == "claimed")
    caught("it has to be False")


def test_a_shard_that_is_done_twice(plant: Plant) -> None:
    plant("is_newest", lambda shard, claim: shard.attempt == claim.attempt)
    caught("cannot happen")


def test_two_workers_at_one_shard(plant: Plant) -> None:
    plant("claimable", lambda shard, now_us, dead: shard.state in ("ready", "claimed"))
    caught("gave the shards")


def test_a_lost_shard_that_nobody_takes(plant: Plant) -> None:
    plant("claimable", lambda shard, now_us, dead: shard.state == "ready" and shard.ready_us <= now_us)
    caught("it was the turn of|gave the shards")


def test_the_dead_who_keep_what_they_had(plant: Plant) -> None:
    claimable = progress.claimable
    plant("claimable", lambda shard, now_us, dead: claimable(shard, now_us))
    caught("it was the turn of|gave the shards")


def test_an_error_that_is_tried_again_at_once(plant: Plant) -> None:
    claimable = progress.claimable
    plant("claimable", lambda shard, now_us, dead: claimable(replace(shard, ready_us=0), now_us, dead))
    caught("gave the shards")


def test_a_wait_that_the_others_do_not_share(plant: Plant) -> None:
    plant("held_back", lambda shard, ready_us: shard)
    caught("gave the shards")


def test_losses_that_nobody_counts(plant: Plant) -> None:
    claimed = progress.claimed

    def forgets(shard: Shard, *rest: object) -> tuple[Shard, Claim | progress.Fail]:
        after, result = claimed(shard, *rest)
        return replace(after, lost=0), result

    plant("claimed", forgets)
    caught("careful is False")


def test_an_error_that_is_tried_for_ever(plant: Plant) -> None:
    failed = progress.failed

    def forgets(shard: Shard, *rest: object) -> object:
        return failed(replace(shard, failures=0), *rest)

    plant("failed", forgets)
    caught("gave the shards|after retry")


def test_the_end_of_a_job_that_leaves_claims(plant: Plant) -> None:
    plant("freed", lambda shard: shard)
    caught("held by|other owners")


def test_what_is_given_back_and_used_again(plant: Plant) -> None:
    released = progress.released

    def as_before(shard: Shard, claim: Claim) -> Shard | None:
        after = released(shard, claim)
        return after and replace(after, attempt=after.attempt - 1)

    plant("released", as_before)
    caught("at attempt")


def test_an_output_made_before_all_rows_are_there(plant: Plant) -> None:
    after_commit = progress.after_commit

    def early(counts: JobCounts, spec: object) -> object:
        ready = counts.shards > 1 and counts.shards_done == counts.shards - 2
        return progress.Ready(counts.shards - 1) if ready else after_commit(counts, spec)

    plant("after_commit", early)
    caught("before all of its rows are there")


def test_an_output_that_nobody_makes(plant: Plant) -> None:
    plant("opened", lambda shard: shard)
    caught("for ever")


def test_too_many_bad_rows_that_nobody_minds(plant: Plant) -> None:
    after_commit = progress.after_commit

    def lenient(counts: JobCounts, spec: object) -> object:
        return after_commit(replace(counts, rows_failed=0), spec)

    plant("after_commit", lenient)
    caught("too many failed rows")


def test_a_resume_that_leaves_the_failed_shard(plant: Plant) -> None:
    plant("resumed", lambda shard: shard)
    caught("with a failed shard|for ever|gave the shards|careful")


def test_a_paused_job_that_runs(plant: Plant) -> None:
    plant("may_run", lambda job: job.status in ("queued", "running", "paused"))
    caught("is paused and gave")


def test_rows_that_are_counted_twice(plant: Plant) -> None:
    counted = progress.counted
    plant("counted", lambda counts, tally: counted(replace(counts, rows_done=counts.rows_done + tally.rows_in), tally))
    caught("the counters of")


def test_a_plan_that_loses_its_last_shard(plant: Plant) -> None:
    planned = progress.planned

    def shortened(job_id: str, ranges: list[ShardRange]) -> list[Shard]:
        return planned(job_id, ranges[:-1])

    plant("planned", shortened)
    caught("shards lost or doubled")


def test_a_resume_from_paused_that_stays_paused(plant: Plant) -> None:
    plant("WANTED", {**progress.WANTED, ("paused", "run"): "paused"})
    caught("was paused, run, and is paused")


class RenewsNothing(MemoryLedger):
    def renew(self, owner: Owner, lease_us: int) -> Renewal:
        before = {job_id: dict(shards) for job_id, shards in self._shards.items()}
        renewal = super().renew(owner, lease_us)
        self._shards = before
        return renewal


class RenewsAll(MemoryLedger):
    def renew(self, owner: Owner, lease_us: int) -> Renewal:
        for other in self.owners():
            renewal = super().renew(other, lease_us)
            if other == owner:
                mine = renewal
        return mine if owner in self.owners() else super().renew(owner, lease_us)


class CountsLate(MemoryLedger):
    """It refuses the late one, and counts it all the same."""

    def complete(self, claim: Claim, outcome: ShardOutcome) -> bool:
        answer = super().complete(claim, outcome)
        if not answer and claim.kind == "rows" and claim.job_id in self._jobs:
            job = self._jobs[claim.job_id]
            self._jobs[job.id] = replace(job, counts=progress.counted(job.counts, outcome.tally))
        return answer


class LosesAnUpdate(MemoryLedger):
    """The job is written as it was when its last shard was claimed."""

    def complete(self, claim: Claim, outcome: ShardOutcome) -> bool:
        self._jobs[claim.job_id] = self.read.get(claim.job_id, self._jobs.get(claim.job_id))
        return super().complete(claim, outcome)

    def claim(self, *arguments: object, **named: object) -> list[Claim]:
        claims = super().claim(*arguments, **named)
        self.read: dict[str, Job] = dict(self._jobs)
        return claims


class ServesTheYoungest(MemoryLedger):
    def claim(
        self, owner: Owner, count: int, lease_us: int, job_id: str | None = None, dead: Iterable[Owner] = ()
    ) -> list[Claim]:
        for name in reversed(self._jobs):
            if job_id in (None, name) and (claims := super().claim(owner, count, lease_us, name, list(dead))):
                return claims
        return []


class FailsLate(MemoryLedger):
    """Who comes late may still fail the shard of another."""

    def fail(self, claim: Claim, failure: ShardFailure) -> bool:
        shard = self._shard(claim)
        newest = shard.attempt if shard and shard.state == "claimed" else claim.attempt
        return super().fail(replace(claim, attempt=newest), failure)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (RenewsNothing, "the lease of"),
        (RenewsAll, "the lease of"),
        (CountsLate, "the counters of"),
        (LosesAnUpdate, "the counters of|is running|failed shard"),
        (ServesTheYoungest, "it was the turn of"),
        (FailsLate, "it has to be False"),
    ],
)
def test_a_ledger_with_a_bug(make: type[MemoryLedger], match: str) -> None:
    caught(match, make)
