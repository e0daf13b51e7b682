"""The rows of the table `jobs`, read as jobs and written where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from inference.database.tables import jobs
from inference.job import HistoryEntry, Job, JobCounts, JobSpec
from inference.ledger.ledger import JobQuery

Values = dict[str, Any]


def values_of(job: Job) -> Values:
    """The columns of a job."""
    counts, run = job.counts, job.spec.run
    return {
        "id": job.id,
        "identity": job.identity,
        "model": job.model,
        "model_sha256": job.model_sha256,
        "spec": job.spec,
        "status": job.status,
        "wanted": job.wanted,
        "priority": int(run.priority),
        "deadline_us": run.deadline_us,
        "created_us": job.created_us,
        "started_us": job.started_us,
        "ended_us": job.ended_us,
        "reason": job.reason,
        "sentence": job.sentence,
        "shards": counts.shards,
        "shards_done": counts.shards_done,
        "rows_total": counts.rows_total,
        "rows_done": counts.rows_done,
        "rows_failed": counts.rows_failed,
        "failed_by_reason": dict(counts.failed_by_reason),
        "schedule": job.schedule,
        "history": job.history,
    }


def job_of(row: sa.RowMapping) -> Job:
    """The job of a row."""
    counts = JobCounts(
        row["shards"],
        row["shards_done"],
        row["rows_total"],
        row["rows_done"],
        row["rows_failed"],
        row["failed_by_reason"],
    )
    return Job(
        id=row["id"],
        identity=row["identity"],
        model=row["model"],
        model_sha256=row["model_sha256"],
        spec=msgspec.convert(row["spec"], JobSpec),
        status=row["status"],
        wanted=row["wanted"],
        counts=counts,
        created_us=row["created_us"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        reason=row["reason"],
        sentence=row["sentence"],
        schedule=row["schedule"],
        history=msgspec.convert(row["history"], tuple[HistoryEntry, ...]),
    )


def read(connection: sa.Connection, job_id: str, *, lock: bool = False) -> Job | None:
    """A job. With `lock` nobody else changes it or its shards until the transaction ends."""
    query = sa.select(jobs).where(jobs.c.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else job_of(row)


def newest(connection: sa.Connection, identity: str) -> Job | None:
    """The newest job of an identity, None for ""."""
    if not identity:
        return None
    query = sa.select(jobs).where(jobs.c.identity == identity).order_by(jobs.c.created_us.desc(), jobs.c.id.desc())
    row = connection.execute(query.limit(1)).mappings().first()
    return None if row is None else job_of(row)


def page(connection: sa.Connection, query: JobQuery, before: tuple[int, str] | None) -> list[Job]:
    """Jobs of a query that are older than (created, id) `before`, and one more if there are more."""
    found = sa.select(jobs).order_by(jobs.c.created_us.desc(), jobs.c.id.desc()).limit(query.count + 1)
    if query.statuses:
        found = found.where(jobs.c.status.in_(query.statuses))
    if query.model_name is not None:
        found = found.where(jobs.c.spec["model_name"].as_string() == query.model_name)
    if query.priority is not None:
        found = found.where(jobs.c.priority == int(query.priority))
    if query.schedule is not None:
        found = found.where(jobs.c.schedule == query.schedule)
    if query.created_from_us is not None:
        found = found.where(jobs.c.created_us >= query.created_from_us)
    if query.created_to_us is not None:
        found = found.where(jobs.c.created_us < query.created_to_us)
    if before is not None:
        created_us, job_id = before
        older = sa.and_(jobs.c.created_us == created_us, jobs.c.id < job_id)
        found = found.where(sa.or_(jobs.c.created_us < created_us, older))
    return [job_of(row) for row in connection.execute(found).mappings()]


def insert(connection: sa.Connection, job: Job, fire_us: int | None) -> None:
    """A job that is new."""
    connection.execute(sa.insert(jobs), {**values_of(job), "fire_us": fire_us})


def update(connection: sa.Connection, before: Job, after: Job) -> None:
    """The columns that have changed, if any."""
    changed = differences(values_of(before), values_of(after))
    if changed:
        connection.execute(sa.update(jobs).where(jobs.c.id == before.id).values(changed))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Values:
    """Columns with another value."""
    return {name: value for name, value in after.items() if before[name] != value}
