"""A database becomes one of this version, from nothing and from every older one; all of it or none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from inference.database.database import Database, open_database
from inference.database.migrations import FOLDER, NEWEST, REVISIONS, VERSION_TABLE, migrate, revision_of
from inference.database.tables import metadata
from inference.job_errors import LedgerInvalid
from tests.inference.live_server import ROOT

SetUp = Callable[..., sa.Engine]


@pytest.fixture
def set_up(database_url: str) -> Iterator[SetUp]:
    """Makes the database what a test needs, before it is opened: at a revision, and with statements run."""
    url = database_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url if "://" in url else f"sqlite:///{url}")

    def set_up(*statements: str, revision: str | None = None) -> sa.Engine:
        with engine.begin() as connection:
            if revision is not None:
                migrate(connection, revision)
            for statement in statements:
                connection.exec_driver_sql(statement)
        return engine

    yield set_up
    engine.dispose()


def tables(engine: sa.Engine) -> set[str]:
    """What is there."""
    return set(sa.inspect(engine).get_table_names())


def revision(database: Database) -> str | None:
    """Of an opened database."""
    with database.reading() as connection:
        return revision_of(connection)


def test_the_known_revisions_are_those_of_the_scripts() -> None:
    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER / "revisions")])
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [NEWEST]


def test_an_empty_database_becomes_what_the_tables_say(database_url: str, set_up: SetUp) -> None:
    database = open_database(database_url)
    assert revision(database) == NEWEST
    with set_up().connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    database.close()


@pytest.mark.parametrize("older", REVISIONS[:-1])
def test_an_older_database_keeps_what_it_holds(database_url: str, set_up: SetUp, older: str) -> None:
    columns = "id, identity, model, model_sha256, spec, status, wanted, priority, created_us, reason, sentence, shards"
    columns += ", shards_done, rows_done, rows_failed, failed_by_reason, schedule, history"
    values = "'job_1', '', 'm/1', '', '{}', 'queued', 'run', 3, 5, '', '', 0, 0, 0, 0, '{}', '', '[]'"
    engine = set_up(f"INSERT INTO jobs ({columns}) VALUES ({values})", revision=older)
    assert "schedules" not in tables(engine)
    database = open_database(database_url)
    assert revision(database) == NEWEST
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT id, created_us FROM jobs").all() == [("job_1", 5)]
        assert connection.exec_driver_sql("SELECT count(*) FROM schedules").scalar() == 0
    database.close()


def test_a_newer_database_is_refused_and_left_alone(database_url: str, set_up: SetUp) -> None:
    engine = set_up(f"UPDATE {VERSION_TABLE} SET version_num = '0815'", revision=NEWEST)
    with pytest.raises(LedgerInvalid, match=rf"newer version made it.*'0815'.*'{NEWEST}'; use that version"):
        open_database(database_url)
    assert tables(engine) == {*metadata.tables, VERSION_TABLE}


def test_a_database_of_something_else_is_refused_and_left_alone(database_url: str, set_up: SetUp) -> None:
    engine = set_up("CREATE TABLE jobs (title VARCHAR)")
    with pytest.raises(LedgerInvalid, match="table `jobs` of something else"):
        open_database(database_url)
    assert tables(engine) == {"jobs"}


def test_a_step_that_fails_undoes_those_before_it(
    database_url: str, set_up: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table = op.create_table

    def fail(name: str, *columns: object) -> None:
        if name == "schedules":
            raise KeyboardInterrupt
        create_table(name, *columns)

    monkeypatch.setattr(op, "create_table", fail)
    with pytest.raises(KeyboardInterrupt):
        open_database(database_url)
    assert tables(set_up()) == set()
    monkeypatch.undo()
    open_database(database_url).close()
    assert {*metadata.tables, VERSION_TABLE} == tables(set_up())


LOOK = "import sys; from inference.database.database import open_database as o; o(sys.argv[1]); "


def test_opening_one_of_this_version_loads_no_alembic(database_url: str) -> None:
    open_database(database_url).close()
    command = [sys.executable, "-c", LOOK + "print('alembic' in sys.modules)", database_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
