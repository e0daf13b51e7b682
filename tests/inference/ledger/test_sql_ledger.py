"""The ledger in SQLite and PostgreSQL keeps the contract; what is decided is decided as in its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from inference.database.database import open_database
from inference.database.tables import jobs, shards
from inference.ledger.sql_ledger import SqlLedger
from tests.inference.ledger.ledger_contract import CHECKS, Bench

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
