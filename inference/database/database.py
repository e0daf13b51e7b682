"""A database: SQLite in a file on this machine, or PostgreSQL by its URL; short transactions, one clock."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from inference.database.file_systems import network_file_system
from inference.database.migrations import NEWEST, check_revision, migrate, revision_of
from inference.fault import quoted
from inference.job_errors import ExtraMissing, LedgerInvalid, LedgerUnavailable

ACCEPTED = "a file on this machine's disk, or postgresql://USER@HOST:PORT/DATABASE"
BUSY_TIMEOUT_S = 20.0  # a transaction takes milliseconds; waiting so long, another one hangs
CONNECTIONS_MAX = 6  # of a process: its worker's threads and those that answer callers

# A server that hangs, a network that swallows packets and a process that is stopped in the middle of a transaction
# are noticed; TCP alone takes hours.
_POSTGRES_OPTIONS = "-c statement_timeout=60000 -c lock_timeout=20000 -c idle_in_transaction_session_timeout=30000"
_POSTGRES: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
    "options": _POSTGRES_OPTIONS,
    "application_name": "glassai",
}
_LOCK_KEY = 0x676C617373  # of PostgreSQL's advisory lock: "glass"
_BUGS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)  # ours, not the database's

_NOW_US = sa.select(sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger))


def _clock_us() -> int:
    return time.time_ns() // 1000


class Database:
    """Connections to one database. Threads may share it; an event loop or a forked process may not use it.

    `clock_us`: microseconds since 1970 in place of the database's own clock, which is PostgreSQL's, or with SQLite this
    machine's.
    """

    def __init__(self, engine: sa.Engine, name: str, clock_us: Callable[[], int] | None = None) -> None:
        self.name = name
        self.is_postgres = engine.dialect.name == "postgresql"
        self._reader = engine
        self._writer = engine.execution_options(writes=True)
        self._clock_us = clock_us or (None if self.is_postgres else _clock_us)
        self._process = os.getpid()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. Raises LedgerUnavailable."""
        with self._transaction(self._reader) as connection:
            yield connection

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[sa.Connection]:
        """A transaction that is committed at its end, and undone by an error. Raises LedgerUnavailable.

        In SQLite nobody else writes meanwhile. In PostgreSQL rows are locked one by one; of those with `alone` there is
        one at a time.
        """
        with self._transaction(self._writer) as connection:
            if alone and self.is_postgres:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
            yield connection

    def now_us(self, connection: sa.Connection) -> int:
        """Microseconds since 1970; not those of the transaction's begin, which may have waited for a lock since."""
        if self._clock_us is not None:
            return self._clock_us()
        now_us = connection.scalar(_NOW_US)
        assert isinstance(now_us, int), f"the database's clock gave {now_us!r}"
        return now_us

    def close(self) -> None:
        """Close all connections that nobody uses; the others as soon as they are given back."""
        self._reader.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        assert os.getpid() == self._process, "a database is opened anew in a forked process"
        assert not _in_event_loop(), "a database is never touched from an event loop"
        try:
            with engine.begin() as connection:
                yield connection
        except _BUGS:
            raise
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise LedgerUnavailable(f"{self.name}: {cause_of(error)}") from error


def open_database(
    url_or_path: str | Path, busy_timeout_s: float = BUSY_TIMEOUT_S, clock_us: Callable[[], int] | None = None
) -> Database:
    """The database, made or brought to this version if need be.

    Raises LedgerInvalid (what is named cannot be a ledger), LedgerUnavailable (it does not answer), and ExtraMissing.
    """
    database = _connect(str(url_or_path), busy_timeout_s, clock_us)
    try:
        with database.reading() as connection:
            revision = revision_of(connection)
        if revision != NEWEST:
            with database.writing(alone=True) as connection:  # looked at again: others may open it at the same time
                if check_revision(connection, database.name) != NEWEST:
                    migrate(connection)
    except BaseException as error:
        database.close()
        if isinstance(error.__cause__, exc.DatabaseError) and type(error.__cause__.orig) is sqlite3.DatabaseError:
            raise LedgerInvalid(database.name, [f"{error.__cause__.orig}; name another file"]) from error
        raise
    return database


def cause_of(error: Exception) -> str:
    """What the database itself says, in one line."""
    told = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    return " ".join(str(told).split())


def _connect(url_or_path: str, busy_timeout_s: float, clock_us: Callable[[], int] | None) -> Database:
    options: dict[str, Any] = {
        "json_serializer": _to_json,
        "json_deserializer": msgspec.json.decode,
        "pool_size": 2,
        "max_overflow": CONNECTIONS_MAX - 2,
        "pool_timeout": busy_timeout_s,
    }
    if "://" in url_or_path:
        return _connect_postgres(url_or_path, options, clock_us)
    path = Path(url_or_path).resolve()
    _check_place(path)
    url = sa.URL.create("sqlite+pysqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout_s, "isolation_level": None}, **options)

    def connected(connection: sqlite3.Connection, _: object) -> None:
        _set_up(connection, busy_timeout_s)

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", _begin)
    return Database(engine, quoted(str(path)), clock_us)


def _connect_postgres(text: str, options: dict[str, Any], clock_us: Callable[[], int] | None) -> Database:
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        raise LedgerInvalid("URL", [f"it cannot be read; accepted {ACCEPTED}"]) from None  # it may hold a password
    name = url.set(query={}).render_as_string(hide_password=True)
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise LedgerInvalid(name, [f"given {quoted(url.drivername)}, accepted {ACCEPTED}"])
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args=_POSTGRES,
            isolation_level="READ COMMITTED",  # what is read after a lock is newer than the lock
            pool_pre_ping=True,
            **options,
        )
    except ImportError as error:
        raise ExtraMissing("A ledger in PostgreSQL", "postgres") from error
    return Database(engine, name, clock_us)


def _check_place(path: Path) -> None:
    """Raises LedgerInvalid where SQLite could not be trusted with a file."""
    network = network_file_system(path)
    problems = []
    if network is not None:
        sentence = f"it lies on a network file system ({network}), which does not keep locks; accepted {ACCEPTED}"
        problems.append(sentence)
    if not path.parent.is_dir():
        problems.append("the folder that it lies in is not there; make it first")
    elif path.exists() and not path.is_file():
        problems.append("it is no file; name a file")
    if problems:
        raise LedgerInvalid(quoted(str(path)), problems)


def _set_up(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Every new connection to SQLite: a commit is on the disk when it returns, and readers and a writer coexist."""
    for setting in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {setting}")
    end_s = time.monotonic() + busy_timeout_s
    while (mode := _write_ahead(connection)) == "busy" and time.monotonic() < end_s:
        time.sleep(0.005)
    if mode != "wal":
        told = "database is locked" if mode == "busy" else f"write-ahead logging cannot be used here, but {mode!r}"
        raise sqlite3.OperationalError(told)


def _write_ahead(connection: sqlite3.Connection) -> str:
    """The journal's mode; "busy" if others do so too, which SQLite does not wait for while a new file is changed."""
    try:
        return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # the rest of the code tells which kind of it
            raise
        return "busy"


def _begin(connection: sa.Connection) -> None:
    """A writer waits for its turn before it reads, so that what it has read still holds when it writes."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
