"""Shards survive their row; many that change alike are one statement; the filter is the decision's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from inference.database.database import Database, open_database
from inference.database.tables import jobs, shards
from inference.decisions import job_progress as progress
from inference.ledger import job_table, shard_table
from inference.shard import (
    BatchSample,
    Owner,
    Part,
    Piece,
    Shard,
    ShardFailure,
    ShardOutcome,
    ShardRange,
    StageSeconds,
    Tally,
)
from tests.inference.ledger.ledger_bench import ANN, BOB
from tests.inference.ledger.test_job_table import BARE

OUTCOME = ShardOutcome(
    Tally(10, 1, {"not_finite": 1}, {"ok": 9}, (0, 9)),
    Part("parts/000000.1.arrow", 10, 2**40, "ab"),
    Part("parts/000000.1.errors.jsonl", 1, 5, "cd"),
    StageSeconds(0.1, 0.2, 1 / 3),
    1.5,
    1e-7,
    2**33,
    (BatchSample(64, 2, 0.1, 0.01),),
)
FULL = Shard(
    *("job_0", 3, "rows", "done", 2**20, 7, 3, BOB, 1_700_000_000_000_001, 1_700_000_000_000_002),
    range=ShardRange(3, 2**40, None, (Piece(0, 1, 2**40), Piece(1, 0, 5))),
    outcome=OUTCOME,
    failure=ShardFailure("wait", "store_full", "No 'room'."),
)
NOW_US = 1000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    with database.writing() as connection:
        job_table.insert(connection, BARE, None)
    yield database
    database.close()


def ready(number: int) -> Shard:
    return Shard("job_0", number, "rows", "ready")


def test_everything_of_a_shard_reads_back(database: Database) -> None:
    with database.writing() as connection:
        shard_table.insert(connection, [FULL, ready(-1), ready(7)])
    with database.reading() as connection:
        assert shard_table.read(connection, "job_0") == [ready(-1), FULL, ready(7)]
        assert shard_table.read(connection, "job_0", shards.c.number > -1, count=1) == [FULL]
        assert shard_table.read_states(connection, "job_0", "done") == [replace(FULL, range=None, outcome=None)]
        assert connection.scalar(sa.select(shards.c.outcome.is_(None)).where(shards.c.number == 7))
        assert shard_table.read(connection, "job_9") == []


def test_shards_that_change_alike_are_one_statement(database: Database) -> None:
    statements: list[str] = []
    many = [ready(number) for number in range(shard_table.IN_MAX + 9)]
    with database.writing() as connection:
        shard_table.insert(connection, many)
        sa.event.listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2]))
        shard_table.update(connection, [(shard, replace(shard, ready_us=5 * (shard.number != 7))) for shard in many])
        assert len(statements) == 2
        found = shard_table.read(connection, "job_0")
        assert found == [replace(shard, ready_us=5 * (shard.number != 7)) for shard in many]


def test_a_shard_that_is_not_as_it_was_read_is_never_written(database: Database) -> None:
    with database.writing() as connection:
        shard_table.insert(connection, [replace(ready(0), attempt=2)])
        with pytest.raises(AssertionError, match="0 of 1 shards of job_0"):
            shard_table.update(connection, [(ready(0), replace(ready(0), state="claimed"))])


def test_renewing_is_one_statement_and_meets_what_the_decision_says(database: Database) -> None:
    def held(number: int, owner: Owner) -> Shard:
        return Shard("job_0", number, "rows", "claimed", owner=owner, lease_until_us=1)

    before = [held(0, ANN), held(1, ANN), held(2, BOB), ready(3)]
    with database.writing() as connection:
        shard_table.insert(connection, before)
        shard_table.lock_jobs_of(connection, ANN)
        shard_table.renew(connection, ANN, NOW_US + 60)
        after = [progress.renewed(shard, NOW_US, 60) if shard.owner == ANN else shard for shard in before]
        assert shard_table.read(connection, "job_0") == after
        assert shard_table.held(connection, ANN) == [("job_0", 0, "run"), ("job_0", 1, "run")]


times = st.sampled_from([0, NOW_US - 1, NOW_US, NOW_US + 1])
any_shard = st.builds(
    Shard,
    st.just("job_0"),
    st.just(0),
    st.just("rows"),
    st.sampled_from(["waiting", "ready", "claimed", "done", "failed"]),
    owner=st.sampled_from([None, ANN, BOB]),
    lease_until_us=times,
    ready_us=times,
)


@given(st.lists(any_shard, min_size=1, max_size=40), st.sets(st.sampled_from([ANN, BOB])), st.integers(1, 9))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_filter_lets_through_what_the_decision_does(
    database: Database, found: list[Shard], dead: set[Owner], count: int
) -> None:
    numbered = [replace(shard, number=number) for number, shard in enumerate(found)]
    with database.writing() as connection:
        connection.execute(sa.delete(shards))
        shard_table.insert(connection, numbered)
        free = shard_table.claimable(connection, "job_0", count, NOW_US, dead)
        which = sa.select(jobs.c.id).where(shard_table.any_claimable(NOW_US, dead))
        assert connection.execute(which).all() == [("job_0",)] * bool(free)
    assert free == [shard for shard in numbered if progress.claimable(shard, NOW_US, dead)][:count]
