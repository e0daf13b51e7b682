"""Schedules, which make jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """The table of schedules."""
    name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "schedules",
        sa.Column("name", name, primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
        *(sa.Column(text, sa.String, nullable=False) for text in ("when", "zone", "missed")),
        sa.Column("enabled", sa.Boolean, nullable=False),
        *(sa.Column(time, sa.BigInteger) for time in ("next_us", "last_us")),
    )
