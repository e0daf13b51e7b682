"""Jobs and their shards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Both tables with their indexes."""
    name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "jobs",
        sa.Column("id", name, primary_key=True),
        sa.Column("identity", sa.String, nullable=False, index=True),
        *(sa.Column(text, sa.String, nullable=False) for text in ("model", "model_sha256")),
        sa.Column("spec", sa.JSON, nullable=False),
        *(sa.Column(text, sa.String, nullable=False) for text in ("status", "wanted")),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("deadline_us", sa.BigInteger),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        *(sa.Column(time, sa.BigInteger) for time in ("started_us", "ended_us")),
        *(sa.Column(text, sa.String, nullable=False) for text in ("reason", "sentence")),
        *(sa.Column(count, sa.Integer, nullable=False) for count in ("shards", "shards_done")),
        sa.Column("rows_total", sa.BigInteger),
        *(sa.Column(count, sa.BigInteger, nullable=False) for count in ("rows_done", "rows_failed")),
        sa.Column("failed_by_reason", sa.JSON, nullable=False),
        sa.Column("schedule", sa.String, nullable=False),
        sa.Column("fire_us", sa.BigInteger),
        sa.Column("history", sa.JSON, nullable=False),
        sa.UniqueConstraint("schedule", "fire_us", name="uq_jobs_fire"),
        sa.Index("ix_jobs_turn", "status", "priority", "created_us"),
    )
    op.create_table(
        "shards",
        sa.Column("job_id", name, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(text, sa.String, nullable=False) for text in ("kind", "state")),
        *(sa.Column(count, sa.Integer, nullable=False) for count in ("attempt", "lost", "failures")),
        sa.Column("owner", sa.String, index=True),
        *(sa.Column(time, sa.BigInteger, nullable=False) for time in ("lease_until_us", "ready_us")),
        *(sa.Column(content, sa.JSON) for content in ("range", "outcome", "failure")),
        sa.Index("ix_shards_state", "job_id", "state", "number"),
    )
