"""Schedules, and that each of their times makes one job, however many servers look."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from inference.database.database import Database
from inference.database.tables import schedules
from inference.decisions.schedule import Fire, Missed, Skip
from inference.job import Job, JobSpec
from inference.job_errors import ScheduleNotFound
from inference.ledger.ledger import NewJob
from inference.ledger.sql_ledger import create_job


class Schedule(msgspec.Struct, frozen=True):
    """When a job is made again and again. Times are microseconds since 1970 by the ledger's clock.

    `when`: a cron expression or an interval, as `recurrence` reads it; `zone`: whose wall clock it follows; `missed`:
    what becomes of times at which no server looked; `next_us`: None if it never fires again.
    """

    name: str
    spec: JobSpec
    when: str
    zone: str = "UTC"
    missed: Missed = "once"
    enabled: bool = True
    next_us: int | None = None
    last_us: int | None = None  # the time of the job that was made last


class ScheduleStore:
    """The schedules of a ledger, in its database. Every method is one short transaction; raises LedgerUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now_us(self) -> int:
        """Microseconds since 1970 by the ledger's clock."""
        with self._database.reading() as connection:
            return self._database.now_us(connection)

    def put(self, schedule: Schedule) -> None:
        """A new schedule, or another one in place of that of the same name."""
        values = _values_of(schedule)
        with self._database.writing(alone=True) as connection:
            mine = schedules.c.name == schedule.name
            if connection.execute(sa.update(schedules).where(mine).values(values)).rowcount == 0:
                connection.execute(sa.insert(schedules), values)

    def schedule(self, name: str) -> Schedule:
        """The schedule of this name. Raises ScheduleNotFound."""
        found = self._read(schedules.c.name == name)
        if not found:
            raise ScheduleNotFound(name, [schedule.name for schedule in self.schedules()])
        return found[0]

    def schedules(self) -> list[Schedule]:
        """All of them, by name."""
        return self._read()

    def due(self, now_us: int) -> list[Schedule]:
        """Those that are enabled and whose time has come, the longest due first."""
        return sorted(self._read(schedules.c.enabled, schedules.c.next_us <= now_us), key=_next_us)

    def fire(self, schedule: Schedule, decision: Fire, job: NewJob) -> Job | None:
        """Make the job of a time, and store the next time with it. None if another server was first, or it was changed.

        `schedule` is what the decision was made about; `job` has its name and the time of the decision.
        """
        assert (job.schedule, job.fire_us) == (schedule.name, decision.fire_us), f"{job.id} is of another time"
        with self._database.writing(alone=True) as connection:
            changed = {"next_us": decision.next_us, "last_us": decision.fire_us}
            if not _advance(connection, schedule, changed):
                return None
            return create_job(connection, job, self._database.now_us(connection))

    def skip(self, schedule: Schedule, decision: Skip) -> bool:
        """Store the next time of a schedule whose times were missed. False if another server was first."""
        with self._database.writing(alone=True) as connection:
            return _advance(connection, schedule, {"next_us": decision.next_us})

    def delete(self, name: str) -> None:
        """Forget a schedule; jobs that it made stay. Raises ScheduleNotFound."""
        with self._database.writing(alone=True) as connection:
            gone = connection.execute(sa.delete(schedules).where(schedules.c.name == name)).rowcount
        if not gone:
            raise ScheduleNotFound(name, [schedule.name for schedule in self.schedules()])

    def _read(self, *which: sa.ColumnElement[bool]) -> list[Schedule]:
        query = sa.select(schedules).where(*which).order_by(schedules.c.name)
        with self._database.reading() as connection:
            return [_schedule_of(row) for row in connection.execute(query).mappings()]


def _advance(connection: sa.Connection, schedule: Schedule, changed: dict[str, int | None]) -> bool:
    """Write over what was read, and over nothing else."""
    as_read = (schedules.c.name == schedule.name, schedules.c.enabled, schedules.c.next_us == schedule.next_us)
    return connection.execute(sa.update(schedules).where(*as_read).values(changed)).rowcount == 1


def _values_of(schedule: Schedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in Schedule.__struct_fields__}


def _schedule_of(row: sa.RowMapping) -> Schedule:
    return msgspec.convert({str(name): value for name, value in row.items()}, Schedule)


def _next_us(schedule: Schedule) -> tuple[int, str]:
    return schedule.next_us or 0, schedule.name
