"""The first revision."""

from __future__ import annotations

import sqlalchemy as sa

from inference.database.migrations import migrate
from inference.database.revisions import jobs


def test_it_makes_jobs_with_shards_that_go_with_them() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection, jobs.revision)
        found = sa.inspect(connection)
        assert {"jobs", "shards"} <= set(found.get_table_names())
        (key,) = found.get_foreign_keys("shards")
        assert (key["referred_table"], key["options"]) == ("jobs", {"ondelete": "CASCADE"})
        assert [item["column_names"] for item in found.get_unique_constraints("jobs")] == [["schedule", "fire_us"]]
    engine.dispose()
