"""Makes a database one of this version: an empty one, or one that an older version left."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from inference.database.tables import jobs
from inference.job_errors import LedgerInvalid

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, MigrationStep

REVISIONS = ("0001", "0002")  # so that who opens a database of this version need not load Alembic, which takes 0.3 s
NEWEST = REVISIONS[-1]
VERSION_TABLE = "ledger_revision"
FOLDER = Path(__file__).parent

_version = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String))


def revision_of(connection: sa.Connection) -> str | None:
    """The revision of a database, None where there is none."""
    return connection.scalar(sa.select(_version.c.version_num)) if _has(connection, VERSION_TABLE) else None


def check_revision(connection: sa.Connection, name: str) -> str | None:
    """The revision of a database that nobody else makes meanwhile. Raises LedgerInvalid for one not known here."""
    found = revision_of(connection)
    if found is None and _has(connection, jobs.name):
        raise LedgerInvalid(name, ["it has a table `jobs` of something else; name a database of its own"])
    if found is not None and found not in REVISIONS:
        sentence = (
            f"a newer version made it, its revision is {found!r} and this one knows up to {NEWEST!r}; "
            "use that version, or another ledger"
        )
        raise LedgerInvalid(name, [sentence])
    return found


def migrate(connection: sa.Connection, to: str = NEWEST) -> None:
    """All steps up to a revision, in the transaction of `connection`: all of them are done, or none is."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER / "revisions")])

    def steps(now: Iterable[str], _: MigrationContext) -> list[MigrationStep]:
        missing = list(scripts.iterate_revisions(to, tuple(now) or "base"))
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(missing)]

    options = {"fn": steps, "version_table": VERSION_TABLE, "transactional_ddl": True}
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


def _has(connection: sa.Connection, table: str) -> bool:
    return sa.inspect(connection).has_table(table)
