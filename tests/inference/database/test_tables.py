"""The columns of a ledger's tables are those of its nouns."""

from __future__ import annotations

from inference.database.tables import jobs, schedules, shards
from inference.job import Job, JobCounts
from inference.ledger.schedule_store import Schedule
from inference.shard import Shard


def names(table: object) -> set[str]:
    return set(table.columns.keys())


def test_every_field_of_a_noun_has_its_column() -> None:
    counts = set(JobCounts.__struct_fields__)
    assert names(jobs) == {*Job.__struct_fields__, *counts, "priority", "deadline_us", "fire_us"} - {"counts"}
    assert names(shards) == set(Shard.__struct_fields__)
    assert names(schedules) == set(Schedule.__struct_fields__)


def test_every_time_is_wide_enough() -> None:
    times = [column for table in (jobs, shards, schedules) for column in table.columns if column.name.endswith("_us")]
    assert len(times) == 9
    assert {str(column.type) for column in times} == {"BIGINT"}
