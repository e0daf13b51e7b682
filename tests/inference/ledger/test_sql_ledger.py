"""The ledger in SQLite and PostgreSQL keeps the contract; what is decided is decided as in its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from inference.database.database import open_database
from inference.database.tables import jobs, shards
from inference.ledger.sql_ledger import SqlLedger, create_job
from tests.inference.ledger.ledger_bench import new_job
from tests.inference.ledger.ledger_contract import CHECKS, Bench
from tests.inference.postgres_server import PostgresServer
from tests.inference.process_group import until

TIMES = (
    (jobs, ("created_us", "started_us", "ended_us")),
    (shards, ("lease_until_us", "ready_us")),
)


class SqlBench:
    """Two ledgers on one database, as two processes have them. Its clock is real, so stored times are moved back."""

    def __init__(self, url: str) -> None:
        self.ledger, self.peer = SqlLedger(open_database(url)), SqlLedger(open_database(url))

    def pass_time(self, us: int) -> None:
        with self.ledger.database.writing() as connection:
            for table, names in TIMES:
                connection.execute(sa.update(table).values({name: table.c[name] - us for name in names}))

    def close(self) -> None:
        self.ledger.close()
        self.peer.close()


@pytest.fixture
def bench(database_url: str) -> Iterator[SqlBench]:
    bench = SqlBench(database_url)
    yield bench
    bench.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Bench], None], bench: SqlBench) -> None:
    check(bench)


def test_a_job_is_created_while_nobody_else_creates_one(postgres_server: PostgresServer) -> None:
    """Else two commands that are started at once would both find no job of their identity."""
    url = postgres_server.new_database()
    ledger, peer = SqlLedger(open_database(url)), SqlLedger(open_database(url))
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    def waits() -> bool:
        with ledger.database.reading() as connection:
            return connection.scalar(waiting) == 1

    with ThreadPoolExecutor(1) as pool:
        with ledger.database.writing(alone=True) as connection:
            made = create_job(connection, new_job("job_1", "ab"), 5)
            found = pool.submit(peer.create, new_job("job_2", "ab"))
            until("the other one does not wait", lambda: found.done() or waits())
            assert not found.done()
        assert found.result(60) == made
    ledger.close()
    peer.close()
