"""The second revision."""

from __future__ import annotations

import sqlalchemy as sa

from inference.database.migrations import migrate
from inference.database.revisions import jobs, schedules


def test_it_adds_schedules_to_the_first_one() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection, jobs.revision)
        before = set(sa.inspect(connection).get_table_names())
        migrate(connection, schedules.revision)
        assert set(sa.inspect(connection).get_table_names()) - before == {"schedules"}
    engine.dispose()
