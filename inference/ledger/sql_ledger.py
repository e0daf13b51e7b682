"""The ledger in SQLite or PostgreSQL.

Every transaction locks the row of its job before it reads a shard, so two of them never wait for each other in a ring,
and what the decision was asked about still holds when its answer is stored. In SQLite there is one writer anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from msgspec.structs import replace

from inference.database.database import Database
from inference.database.tables import jobs, shards
from inference.decisions import job_progress as progress
from inference.decisions.job_order import TurnPolicy, turn
from inference.decisions.job_progress import ProgressPolicy
from inference.job import COMPLETED, ENDED, Dataset, Job, JobCounts, JobSpec, Output, RunSettings, Wanted
from inference.job_errors import JobConflict, JobNotFound
from inference.ledger import job_table, shard_table
from inference.ledger.ledger import JobPage, JobQuery, NewJob, Renewal, page_mark, read_page_mark
from inference.request import Priority
from inference.shard import Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange

_ANY_SPEC = JobSpec("", Dataset(("",), "csv"), Output(""))  # a job's turn depends on its run settings alone


class SqlLedger:
    """Jobs and shards in a database that other processes share; with PostgreSQL also other machines."""

    def __init__(
        self, database: Database, policy: ProgressPolicy | None = None, turns: TurnPolicy | None = None
    ) -> None:
        self.database = database
        self._policy = policy or ProgressPolicy()
        self._turns = turns or TurnPolicy()

    def now_us(self) -> int:
        """See Ledger."""
        with self.database.reading() as connection:
            return self.database.now_us(connection)

    def create(self, job: NewJob) -> Job | None:
        """See Ledger."""
        with self.database.writing(alone=True) as connection:
            same = None if job.schedule else job_table.newest(connection, job.identity)
            if same is not None and same.status not in COMPLETED:
                return same
            return create_job(connection, job, self.database.now_us(connection))

    def job(self, job_id: str) -> Job:
        """See Ledger."""
        with self.database.reading() as connection:
            return _job(connection, job_id)

    def find(self, identity: str) -> Job | None:
        """See Ledger."""
        with self.database.reading() as connection:
            return job_table.newest(connection, identity)

    def jobs(self, query: JobQuery) -> JobPage:
        """See Ledger."""
        before = None if query.after is None else read_page_mark(query.after)
        with self.database.reading() as connection:
            found = job_table.page(connection, query, before)
        page = tuple(found[: query.count])
        return JobPage(page, page_mark(page[-1]) if page and len(found) > len(page) else None)

    def shards(self, job_id: str, first: int, count: int) -> list[Shard]:
        """See Ledger."""
        with self.database.reading() as connection:
            found = shard_table.read(connection, job_id, shards.c.number >= first, count=count)
            if not found:
                _job(connection, job_id)
            return found

    def claim(
        self, owner: Owner, count: int, lease_us: int, job_id: str | None = None, dead: Collection[Owner] = ()
    ) -> list[Claim]:
        """See Ledger."""
        with self.database.reading() as connection:
            candidates = self._candidates(connection, job_id, dead)
        for candidate in candidates:
            with self.database.writing() as connection:
                if claims := self._claim_of(connection, candidate, owner, count, lease_us, dead):
                    return claims
        return []

    def _candidates(self, connection: sa.Connection, job_id: str | None, dead: Collection[Owner]) -> list[str]:
        """Jobs that may run and have something to claim, the one first whose turn it is."""
        now_us = self.database.now_us(connection)
        free = shard_table.any_claimable(now_us, dead)
        columns = (jobs.c.id, jobs.c.priority, jobs.c.deadline_us, jobs.c.created_us, jobs.c.started_us)
        query = sa.select(*columns).where(jobs.c.status.in_(("queued", "running")), jobs.c.wanted == "run", free)
        if job_id is not None:
            query = query.where(jobs.c.id == job_id)
        found = [_turn_of(*row) for row in connection.execute(query)]
        return [job.id for job in sorted(found, key=lambda job: turn(job, now_us, self._turns))]

    def _claim_of(
        self, connection: sa.Connection, job_id: str, owner: Owner, count: int, lease_us: int, dead: Collection[Owner]
    ) -> list[Claim]:
        """Shards of this job; none if somebody else took them meanwhile, or if it fails by that."""
        before = job = job_table.read(connection, job_id, lock=True)
        if before is None or job is None or not progress.may_run(job):
            return []
        now_us = self.database.now_us(connection)
        free = shard_table.claimable(connection, job_id, count, now_us, dead)
        changes: list[tuple[Shard, Shard]] = []
        claims: list[Claim] = []
        for shard in free:
            assert progress.claimable(shard, now_us, dead), f"shard {shard.number} of {job_id} is not to be claimed"
            taken, result = progress.claimed(shard, owner, now_us, lease_us, self._policy)
            changes.append((shard, taken))
            job = progress.after_claim(job, shard, result, now_us)
            if not isinstance(result, Claim):
                claims = []
                break
            claims.append(result)
        shard_table.update(connection, changes)
        _keep(connection, before, job)
        return claims

    def renew(self, owner: Owner, lease_us: int) -> Renewal:
        """See Ledger."""
        with self.database.writing() as connection:
            shard_table.lock_jobs_of(connection, owner)
            shard_table.renew(connection, owner, self.database.now_us(connection) + lease_us)
            held = shard_table.held(connection, owner)
        wanted = {job_id: wanted for job_id, _, wanted in held}
        return Renewal(frozenset((job_id, number) for job_id, number, _ in held), wanted)

    def owners(self) -> list[Owner]:
        """See Ledger."""
        query = sa.select(shards.c.owner).where(shards.c.owner.is_not(None), shards.c.state == "claimed").distinct()
        with self.database.reading() as connection:
            return [Owner.read(owner) for owner in connection.scalars(query)]

    def complete_plan(self, claim: Claim, shards: Sequence[ShardRange], rows_total: int | None) -> bool:
        """See Ledger."""
        assert claim.kind == "plan", f"shard {claim.number} of {claim.job_id} is no plan"
        with self.database.writing() as connection:
            before, shard = _claimed(connection, claim)
            done = progress.completed(shard, claim, None) if shard else None
            if before is None or shard is None or done is None:
                return False
            made = progress.planned(claim.job_id, shards)
            job = progress.plan_committed(before, made, rows_total, self.database.now_us(connection))
            shard_table.update(connection, [(shard, done)])
            shard_table.insert(connection, made)
            _keep(connection, before, job)
            return True

    def complete(self, claim: Claim, outcome: ShardOutcome) -> bool:
        """See Ledger."""
        assert claim.kind != "plan", f"the plan of {claim.job_id} is completed with its shards"
        with self.database.writing() as connection:
            before, shard = _claimed(connection, claim)
            done = progress.completed(shard, claim, outcome) if shard else None
            if before is None or shard is None or done is None:
                return False
            shard_table.update(connection, [(shard, done)])
            job, verdict = progress.committed(before, done, self.database.now_us(connection))
            if isinstance(verdict, progress.Ready):
                _open(connection, job, verdict)
            _keep(connection, before, job)
            return True

    def fail(self, claim: Claim, failure: ShardFailure) -> bool:
        """See Ledger."""
        with self.database.writing() as connection:
            before, shard = _claimed(connection, claim)
            now_us = self.database.now_us(connection)
            result = progress.failed(shard, claim, failure, now_us, self._policy) if shard else None
            if before is None or shard is None or result is None:
                return False
            after, verdict = result
            changes = [(shard, after)]
            if failure.kind == "wait":
                ready = shard_table.read_states(connection, claim.job_id, "ready")
                changes += [(other, progress.held_back(other, after.ready_us)) for other in ready]
            shard_table.update(connection, changes)
            _keep(connection, before, progress.after_failure(before, after, verdict, now_us))
            return True

    def release(self, claim: Claim) -> bool:
        """See Ledger."""
        with self.database.writing() as connection:
            _, shard = _claimed(connection, claim)
            free = progress.released(shard, claim) if shard else None
            if shard is None or free is None:
                return False
            shard_table.update(connection, [(shard, free)])
            return True

    def want(self, job_id: str, wanted: Wanted, run: RunSettings | None = None) -> Job:
        """See Ledger."""
        with self.database.writing() as connection:
            before = _job(connection, job_id, lock=True)
            job = progress.obeyed(before, wanted, self.database.now_us(connection), run)
            if isinstance(job, progress.Conflict):
                raise JobConflict(job_id, job.action, before.status, job.instead)
            if job.status == "queued" != before.status:
                open_ones = shard_table.read_states(connection, job_id, "ready", "failed")
                shard_table.update(connection, [(shard, progress.resumed(shard)) for shard in open_ones])
                verdict = progress.after_commit(job.counts, job.spec)
                if isinstance(verdict, progress.Ready):
                    _open(connection, job, verdict)
            _keep(connection, before, job)
            return job

    def delete(self, job_id: str) -> None:
        """See Ledger."""
        with self.database.writing() as connection:
            job = _job(connection, job_id, lock=True)
            conflict = progress.deletable(job)
            if conflict is not None:
                raise JobConflict(job_id, conflict.action, job.status, conflict.instead)
            connection.execute(sa.delete(jobs).where(jobs.c.id == job_id))

    def close(self) -> None:
        """Give all connections back."""
        self.database.close()


def create_job(connection: sa.Connection, job: NewJob, now_us: int) -> Job | None:
    """A new job with its plan. None if its schedule has fired for that time already; nobody else creates meanwhile."""
    fire_us = job.fire_us if job.schedule else None
    if fire_us is not None:
        fired = sa.select(jobs.c.id).where(jobs.c.schedule == job.schedule, jobs.c.fire_us == fire_us)
        if connection.execute(fired).first() is not None:
            return None
    facts = (job.id, job.identity, job.model, job.model_sha256, job.spec)
    new = Job(*facts, "queued", "run", JobCounts(), now_us, schedule=job.schedule)
    made = progress.noted(new, "created", now_us)
    job_table.insert(connection, made, fire_us)
    shard_table.insert(connection, [progress.plan_shard(made.id)])
    return made


def _turn_of(job_id: str, priority: int, deadline_us: int | None, created_us: int, started_us: int | None) -> Job:
    """A job with nothing but what its turn depends on."""
    spec = replace(_ANY_SPEC, run=RunSettings(Priority(priority), deadline_us=deadline_us))
    return Job(job_id, "", "", "", spec, "queued", "run", JobCounts(), created_us, started_us)


def _job(connection: sa.Connection, job_id: str, *, lock: bool = False) -> Job:
    """A job. Raises JobNotFound."""
    found = job_table.read(connection, job_id, lock=lock)
    if found is None:
        raise JobNotFound(job_id)
    return found


def _claimed(connection: sa.Connection, claim: Claim) -> tuple[Job | None, Shard | None]:
    """The job of a claim, locked, and its shard; None once the job has been deleted."""
    job = job_table.read(connection, claim.job_id, lock=True)
    found = shard_table.read(connection, claim.job_id, shards.c.number == claim.number)
    return job, found[0] if found else None


def _open(connection: sa.Connection, job: Job, verdict: progress.Ready) -> None:
    """The shard that finishes may be claimed."""
    waiting = shard_table.read(connection, job.id, shards.c.number == verdict.number)
    shard_table.update(connection, ((shard, progress.opened(shard)) for shard in waiting))


def _keep(connection: sa.Connection, before: Job, job: Job) -> None:
    """Store the job; nobody holds anything of one that has ended."""
    job_table.update(connection, before, job)
    if job.status in ENDED:
        claimed: Iterable[Shard] = shard_table.read_states(connection, job.id, "claimed")
        shard_table.update(connection, ((shard, progress.freed(shard)) for shard in claimed))
