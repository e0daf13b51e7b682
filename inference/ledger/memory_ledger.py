"""The in-memory twin of the ledgers: it keeps the contract, and forgets everything with its process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from inference.decisions import job_progress as progress
from inference.decisions.job_order import TurnPolicy, turn
from inference.decisions.job_progress import ProgressPolicy
from inference.job import COMPLETED, ENDED, Job, JobCounts, RunSettings, Wanted
from inference.job_errors import JobConflict, JobNotFound
from inference.ledger.ledger import JobPage, JobQuery, NewJob, Renewal, page_mark, read_page_mark
from inference.shard import Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange


def _clock_us() -> int:
    """Microseconds since 1970 by this machine."""
    return time.time_ns() // 1000


class MemoryLedger:
    """Jobs and shards in dictionaries under one lock. `clock_us` gives microseconds since 1970."""

    def __init__(
        self,
        clock_us: Callable[[], int] = _clock_us,
        policy: ProgressPolicy | None = None,
        turns: TurnPolicy | None = None,
    ) -> None:
        self._clock_us = clock_us
        self._policy = policy or ProgressPolicy()
        self._turns = turns or TurnPolicy()
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._shards: dict[str, dict[int, Shard]] = {}  # by job, then by number
        self._fires: dict[tuple[str, int], str] = {}  # the job that a schedule made for a time

    def now_us(self) -> int:
        """See Ledger."""
        return self._clock_us()

    def create(self, job: NewJob) -> Job | None:
        """See Ledger."""
        with self._lock:
            if job.schedule and job.fire_us is not None and (job.schedule, job.fire_us) in self._fires:
                return None
            same = None if job.schedule else self._newest(job.identity)
            if same is not None and same.status not in COMPLETED:
                return same
            assert job.id not in self._jobs, f"{job.id} is there already"
            now_us = self.now_us()
            facts = (job.id, job.identity, job.model, job.model_sha256, job.spec)
            made = Job(*facts, "queued", "run", JobCounts(), now_us, schedule=job.schedule)
            if job.schedule and job.fire_us is not None:
                self._fires[job.schedule, job.fire_us] = job.id
            self._shards[job.id] = {}
            self._put(progress.plan_shard(job.id))
            return self._keep(progress.noted(made, "created", now_us))

    def job(self, job_id: str) -> Job:
        """See Ledger."""
        with self._lock:
            return self._job(job_id)

    def find(self, identity: str) -> Job | None:
        """See Ledger."""
        with self._lock:
            return self._newest(identity)

    def jobs(self, query: JobQuery) -> JobPage:
        """See Ledger."""
        before = read_page_mark(query.after) if query.after is not None else None
        with self._lock:
            found = sorted((job for job in self._jobs.values() if _asked(job, query)), key=_age, reverse=True)
        if before is not None:
            found = [job for job in found if _age(job) < before]
        page = tuple(found[: query.count])
        return JobPage(page, page_mark(page[-1]) if page and len(found) > len(page) else None)

    def shards(self, job_id: str, first: int, count: int) -> list[Shard]:
        """See Ledger."""
        with self._lock:
            self._job(job_id)
            shards = self._shards[job_id]
            return [shards[number] for number in sorted(shards) if number >= first][:count]

    def claim(
        self, owner: Owner, count: int, lease_us: int, job_id: str | None = None, dead: Collection[Owner] = ()
    ) -> list[Claim]:
        """See Ledger."""
        with self._lock:
            now_us = self.now_us()
            jobs = [job for job in self._jobs.values() if progress.may_run(job) and job_id in (None, job.id)]
            for job in sorted(jobs, key=lambda job: turn(job, now_us, self._turns)):
                if claims := self._claim_of(job, owner, count, lease_us, dead, now_us):
                    return claims
            return []

    def _claim_of(
        self, job: Job, owner: Owner, count: int, lease_us: int, dead: Collection[Owner], now_us: int
    ) -> list[Claim]:
        """Shards of this job; none if it fails by that."""
        shards = self._shards[job.id]
        free = [shards[n] for n in sorted(shards) if progress.claimable(shards[n], now_us, dead)]
        claims: list[Claim] = []
        for before in free[:count]:
            shard, result = progress.claimed(before, owner, now_us, lease_us, self._policy)
            self._put(shard)
            job = self._keep(progress.after_claim(job, before, result, now_us))
            if not isinstance(result, Claim):
                return []
            claims.append(result)
        return claims

    def renew(self, owner: Owner, lease_us: int) -> Renewal:
        """See Ledger."""
        with self._lock:
            held = [shard for shard in self._claimed() if shard.owner == owner]
            for shard in held:
                self._put(progress.renewed(shard, self.now_us(), lease_us))
            wanted = {shard.job_id: self._jobs[shard.job_id].wanted for shard in held}
            return Renewal(frozenset((shard.job_id, shard.number) for shard in held), wanted)

    def owners(self) -> list[Owner]:
        """See Ledger."""
        with self._lock:
            return list(dict.fromkeys(shard.owner for shard in self._claimed() if shard.owner is not None))

    def complete_plan(self, claim: Claim, shards: Sequence[ShardRange], rows_total: int | None) -> bool:
        """See Ledger."""
        assert claim.kind == "plan", f"shard {claim.number} of {claim.job_id} is no plan"
        with self._lock:
            shard = self._shard(claim)
            done = progress.completed(shard, claim, None) if shard else None
            if done is None:
                return False
            made = progress.planned(claim.job_id, shards)
            job = progress.plan_committed(self._jobs[claim.job_id], made, rows_total, self.now_us())
            for one in (done, *made):
                self._put(one)
            self._keep(job)
            return True

    def complete(self, claim: Claim, outcome: ShardOutcome) -> bool:
        """See Ledger."""
        assert claim.kind != "plan", f"the plan of {claim.job_id} is completed with its shards"
        with self._lock:
            shard = self._shard(claim)
            done = progress.completed(shard, claim, outcome) if shard else None
            if done is None:
                return False
            self._put(done)
            job, verdict = progress.committed(self._jobs[claim.job_id], done, self.now_us())
            if isinstance(verdict, progress.Ready):
                self._put(progress.opened(self._shards[job.id][verdict.number]))
            self._keep(job)
            return True

    def fail(self, claim: Claim, failure: ShardFailure) -> bool:
        """See Ledger."""
        with self._lock:
            now_us = self.now_us()
            shard = self._shard(claim)
            result = progress.failed(shard, claim, failure, now_us, self._policy) if shard else None
            if result is None:
                return False
            after, verdict = result
            self._put(after)
            if failure.kind == "wait":
                for other in list(self._shards[claim.job_id].values()):
                    self._put(progress.held_back(other, after.ready_us))
            self._keep(progress.after_failure(self._jobs[claim.job_id], after, verdict, now_us))
            return True

    def release(self, claim: Claim) -> bool:
        """See Ledger."""
        with self._lock:
            shard = self._shard(claim)
            free = progress.released(shard, claim) if shard else None
            if free is not None:
                self._put(free)
            return free is not None

    def want(self, job_id: str, wanted: Wanted, run: RunSettings | None = None) -> Job:
        """See Ledger."""
        with self._lock:
            before = self._job(job_id)
            job = progress.obeyed(before, wanted, self.now_us(), run)
            if isinstance(job, progress.Conflict):
                raise JobConflict(job_id, job.action, before.status, job.instead)
            if job.status == "queued" != before.status:
                shards = self._shards[job_id]
                for shard in list(shards.values()):
                    self._put(progress.resumed(shard))
                verdict = progress.after_commit(job.counts, job.spec)
                if isinstance(verdict, progress.Ready):
                    self._put(progress.opened(shards[verdict.number]))
            return self._keep(job)

    def delete(self, job_id: str) -> None:
        """See Ledger."""
        with self._lock:
            job = self._job(job_id)
            conflict = progress.deletable(job)
            if conflict is not None:
                raise JobConflict(job_id, conflict.action, job.status, conflict.instead)
            del self._jobs[job_id], self._shards[job_id]
            self._fires = {fire: made for fire, made in self._fires.items() if made != job_id}

    def close(self) -> None:
        """Nothing is open."""

    # ---- under the lock ----------------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        return self._jobs[job_id]

    def _newest(self, identity: str) -> Job | None:
        same = (job for job in self._jobs.values() if identity and job.identity == identity)
        return max(same, key=_age, default=None)

    def _claimed(self) -> list[Shard]:
        return [shard for shards in self._shards.values() for shard in shards.values() if shard.state == "claimed"]

    def _shard(self, claim: Claim) -> Shard | None:
        """The claim's shard; None if its job has been deleted."""
        return self._shards.get(claim.job_id, {}).get(claim.number)

    def _put(self, shard: Shard) -> None:
        self._shards[shard.job_id][shard.number] = shard

    def _keep(self, job: Job) -> Job:
        """Store the job; nobody holds anything of one that has ended."""
        self._jobs[job.id] = job
        if job.status in ENDED:
            for shard in list(self._shards[job.id].values()):
                self._put(progress.freed(shard))
        return job


def _age(job: Job) -> tuple[int, str]:
    """Newer jobs have more."""
    return job.created_us, job.id


def _asked(job: Job, query: JobQuery) -> bool:
    """Whether a query means this job."""
    return (
        (not query.statuses or job.status in query.statuses)
        and query.model_name in (None, job.spec.model_name)
        and query.priority in (None, job.spec.run.priority)
        and query.schedule in (None, job.schedule)
        and (query.created_from_us is None or job.created_us >= query.created_from_us)
        and (query.created_to_us is None or job.created_us < query.created_to_us)
    )
