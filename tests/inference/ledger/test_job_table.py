"""Jobs survive their row; only what has changed is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from inference.database.database import Database, open_database
from inference.job import Dataset, HistoryEntry, Job, JobCounts, JobSpec, Output, RowSettings, RunSettings
from inference.ledger import job_table
from inference.request import Priority

SPEC = JobSpec(
    "m",
    Dataset(("a/é.csv", "b.csv"), "csv", {"temperature": "Temp °C"}),
    Output("out.csv", "csv", single=False),
    3,
    RowSettings(("row_id",), "live", 7, 8, 9),
    RunSettings(Priority.CRITICAL, 64, 1 / 3, 1_800_000_000_000_001, accept_changed_inputs=True),
)
JOB = Job(
    "job_1",
    "ab",
    "m/3",
    "cd",
    SPEC,
    "failed",
    "pause",
    JobCounts(4, 3, 2**40, 2**39, 5, {"not_finite": 5}),
    1_700_000_000_000_001,
    1_700_000_000_000_002,
    1_700_000_000_000_003,
    "owner_lost",
    "The worker was lost, 'twice'.",
    "nightly",
    (HistoryEntry(1, "created"), HistoryEntry(2, "ended", "é")),
)
BARE = Job("job_0", "", "m/1", "", JobSpec("m", Dataset(("a",), "csv"), Output("o")), "queued", "run", JobCounts(), 1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.close()


def test_everything_of_a_job_reads_back(database: Database) -> None:
    with database.writing() as connection:
        job_table.insert(connection, JOB, 5)
        job_table.insert(connection, BARE, None)
    with database.reading() as connection:
        for job in (JOB, BARE):
            assert job_table.read(connection, job.id) == job
            assert job_table.newest(connection, job.identity) == (job if job.identity else None)
        assert job_table.read(connection, "job_9", lock=True) is None


def test_only_what_has_changed_is_written(database: Database) -> None:
    statements: list[str] = []
    with database.writing() as connection:
        job_table.insert(connection, JOB, None)
        sa.event.listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2]))
        job_table.update(connection, JOB, JOB)
        assert statements == []
        counts = replace(JOB.counts, rows_done=7)
        after = replace(JOB, status="running", counts=counts, spec=replace(SPEC, run=RunSettings()))
        job_table.update(connection, JOB, after)
        assert job_table.read(connection, JOB.id) == after
    written = statements[0].partition(" SET ")[2].partition(" WHERE ")[0]
    assert {name.partition("=")[0].strip() for name in written.split(",")} == {
        *("status", "rows_done", "spec", "priority", "deadline_us")
    }
