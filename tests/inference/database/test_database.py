"""Opening databases, their transactions, and what is told of those that cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import sqlalchemy as sa

from inference.database.database import Database, open_database
from inference.database.tables import schedules
from inference.job_errors import ExtraMissing, LedgerInvalid, LedgerUnavailable
from tests.inference.live_server import ROOT
from tests.inference.postgres_server import PostgresServer, free_port

ROW = {"spec": {"a": [1, None]}, "when": "@daily", "zone": "UTC", "missed": "once", "enabled": True}


@contextmanager
def opened(url: str | Path, **options: object) -> Iterator[Database]:
    """A database that is closed at the end."""
    database = open_database(url, **options)
    try:
        yield database
    finally:
        database.close()


def put(database: Database, *names: str) -> None:
    """Any rows, in one transaction."""
    with database.writing() as connection:
        for name in names:
            connection.execute(sa.insert(schedules), {"name": name, **ROW})


def names(database: Database) -> list[str]:
    """The rows that are there."""
    with database.reading() as connection:
        return list(connection.scalars(sa.select(schedules.c.name).order_by(schedules.c.name)))


# ---- both ------------------------------------------------------------------------------------------------------------


def test_what_is_committed_is_seen_by_others_and_what_failed_is_undone(database_url: str) -> None:
    with opened(database_url) as database, opened(database_url) as peer:
        put(database, "a")
        with pytest.raises(sa.exc.IntegrityError):
            put(database, "b", "a")
        assert names(peer) == ["a"]
        with peer.reading() as connection:
            assert connection.scalar(sa.select(schedules.c.spec)) == ROW["spec"]


def test_a_bug_of_ours_is_not_taken_for_a_database_that_does_not_answer(database_url: str) -> None:
    with opened(database_url) as database:
        put(database, "a")
        with pytest.raises(sa.exc.IntegrityError):
            put(database, "a")


def test_text_is_ordered_by_its_bytes(database_url: str) -> None:
    with opened(database_url) as database:
        for name in ("b", "B", "a", "_", "é", "Z1", "Z_"):
            put(database, name)
        assert names(database) == sorted(["b", "B", "a", "_", "é", "Z1", "Z_"])


def test_its_clock_goes_on_within_a_transaction(database_url: str) -> None:
    with opened(database_url) as database, database.writing() as connection:
        first_us, then_us = database.now_us(connection), database.now_us(connection)
        assert 1_700_000_000_000_000 < first_us < then_us
    with opened(database_url, clock_us=lambda: 7) as database, database.reading() as connection:
        assert database.now_us(connection) == 7


OPEN = """
import sys
import alembic.operations, alembic.runtime.migration, alembic.script
from inference.database.database import open_database
print(flush=True)
sys.stdin.readline()
open_database(sys.argv[1])
"""


def test_processes_that_open_a_new_database_at_once_make_it_once(database_url: str) -> None:
    command = [sys.executable, "-c", OPEN, database_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    openers = [subprocess.Popen(command, cwd=ROOT, bufsize=0, **pipes) for _ in range(8)]
    assert [opener.stdout and opener.stdout.read(1) for opener in openers] == [b"\n"] * 8
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(b"\n")
    assert [opener.communicate(timeout=100)[1] for opener in openers] == [b""] * 8
    with opened(database_url) as database:
        assert names(database) == []


async def test_an_event_loop_never_waits_for_a_database(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="event loop"):
        open_database(tmp_path / "ledger.sqlite")


def test_a_fork_does_not_share_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "ledger.sqlite") as database:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(AssertionError, match="forked"):
            names(database)


# ---- SQLite ----------------------------------------------------------------------------------------------------------


def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.sqlite") as database, database.reading() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert told == ["wal", 2]  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_writer_has_its_turn_before_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path) as database, opened(path, busy_timeout_s=0.05) as peer, database.writing():
        assert names(peer) == []
        with pytest.raises(LedgerUnavailable, match=r"ledger.sqlite': database is locked"), peer.writing():
            pytest.fail("two write at once")


def test_a_database_that_is_locked_for_long_is_told_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path, busy_timeout_s=0.05) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnavailable, match="is locked"):
            put(database, "a")
        other.execute("ROLLBACK")
        other.close()
        put(database, "a")
        assert names(database) == ["a"]


def test_a_new_file_that_others_read_is_waited_for_and_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    reader = sqlite3.connect(path, isolation_level=None)
    reader.executescript("CREATE TABLE other (a); BEGIN; SELECT * FROM other")
    with pytest.raises(LedgerUnavailable, match="is locked"):
        open_database(path, busy_timeout_s=0.05)
    reader.close()
    with opened(path) as database:
        assert names(database) == []


@pytest.mark.parametrize("place", ["gone/ledger.sqlite", "."])
def test_a_place_that_cannot_hold_a_file_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(LedgerInvalid, match=r"folder that it lies in is not there|no file"):
        open_database(tmp_path / place)


def test_a_network_file_system_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = SimpleNamespace(mountpoint="/", fstype="nfs4")
    monkeypatch.setattr(psutil, "disk_partitions", lambda **which: [mount] if which["all"] else [])
    with pytest.raises(LedgerInvalid, match=r"network file system \(nfs4\).*postgresql://"):
        open_database(tmp_path / "ledger.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("row,value\n" * 1000)
    with pytest.raises(LedgerInvalid, match="file is not a database"):
        open_database(path)
    assert path.read_text() == "row,value\n" * 1000


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    path.with_name("ledger.sqlite-wal").mkdir()
    with pytest.raises(LedgerUnavailable, match=r"ledger.sqlite': \w"):
        open_database(path)


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    url = f"postgresql://ann:secret@127.0.0.1:{free_port()}/jobs"
    with pytest.raises(LedgerUnavailable, match=r"postgresql://ann:\*\*\*@127.0.0.1") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://ann:secret@db/jobs", "sqlite:///jobs", "postgresql+asyncpg://ann:secret@db/x"]
)
def test_a_url_of_something_else_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(LedgerInvalid, match="accepted a file on this machine's disk, or postgresql://") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(LedgerInvalid, match="cannot be read"):
        open_database("postgresql://ann:secret@db:port/jobs")


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissing, match=r"glassai-inference\[postgres\]"):
        open_database("postgresql://ann@db/jobs")


def test_a_server_with_another_isolation_still_shows_what_is_newer_than_a_lock(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    name = url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with opened(url) as database, opened(url) as peer, database.writing() as connection:
        assert connection.scalars(sa.select(schedules.c.name)).all() == []
        put(peer, "a")
        assert connection.scalars(sa.select(schedules.c.name)).all() == ["a"]
