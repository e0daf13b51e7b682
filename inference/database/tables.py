"""The tables of a ledger (docs/batch.md). Times are microseconds since 1970; what a column means, its noun says."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


def _name() -> sa.types.TypeEngine[str]:
    """Text that is compared by its bytes, as Python does it, whatever the database's language."""
    return sa.String().with_variant(sa.String(collation="C"), "postgresql")


jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", _name(), primary_key=True),
    sa.Column("identity", sa.String, nullable=False, index=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("model_sha256", sa.String, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("wanted", sa.String, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("deadline_us", sa.BigInteger),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("started_us", sa.BigInteger),
    sa.Column("ended_us", sa.BigInteger),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("sentence", sa.String, nullable=False),
    sa.Column("shards", sa.Integer, nullable=False),
    sa.Column("shards_done", sa.Integer, nullable=False),
    sa.Column("rows_total", sa.BigInteger),
    sa.Column("rows_done", sa.BigInteger, nullable=False),
    sa.Column("rows_failed", sa.BigInteger, nullable=False),
    sa.Column("failed_by_reason", sa.JSON, nullable=False),
    sa.Column("schedule", sa.String, nullable=False),
    sa.Column("fire_us", sa.BigInteger),  # null, and so never twice the same, for a job that no schedule made
    sa.Column("history", sa.JSON, nullable=False),
    sa.UniqueConstraint("schedule", "fire_us", name="uq_jobs_fire"),
    sa.Index("ix_jobs_turn", "status", "priority", "created_us"),
)

shards = sa.Table(
    "shards",
    metadata,
    sa.Column("job_id", _name(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("owner", sa.String, index=True),
    sa.Column("lease_until_us", sa.BigInteger, nullable=False),
    sa.Column("ready_us", sa.BigInteger, nullable=False),
    sa.Column("range", sa.JSON(none_as_null=True)),
    sa.Column("outcome", sa.JSON(none_as_null=True)),
    sa.Column("failure", sa.JSON(none_as_null=True)),
    sa.Index("ix_shards_state", "job_id", "state", "number"),
)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("when", sa.String, nullable=False),
    sa.Column("zone", sa.String, nullable=False),
    sa.Column("missed", sa.String, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("next_us", sa.BigInteger),  # null if it never fires again
    sa.Column("last_us", sa.BigInteger),
)
