"""The rows of the table `shards`, read as shards and written where they differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from inference.database.tables import jobs, shards
from inference.ledger.job_table import Values, differences
from inference.shard import Owner, Shard, ShardFailure, ShardOutcome, ShardRange

IN_MAX = 500  # values in one statement; SQLite took 999 at most for long
_CONTENT = {"range": ShardRange, "outcome": ShardOutcome, "failure": ShardFailure}
_LARGE = ("range", "outcome")  # a transition of many shards at once has no use for them


def values_of(shard: Shard) -> Values:
    """The columns of a shard."""
    values = {name: getattr(shard, name) for name in Shard.__struct_fields__}
    values["owner"] = None if shard.owner is None else str(shard.owner)
    return values


def shard_of(row: sa.RowMapping) -> Shard:
    """The shard of a row."""
    values: dict[str, Any] = dict(row)
    for name, kind in _CONTENT.items():
        if values.get(name) is not None:
            values[name] = msgspec.convert(values[name], kind)
    if values["owner"] is not None:
        values["owner"] = Owner.read(values["owner"])
    return Shard(**values)


def read(
    connection: sa.Connection, job_id: str, *which: sa.ColumnElement[bool], count: int | None = None
) -> list[Shard]:
    """Shards of a job by number."""
    query = _by_number(job_id, *which)
    if count is not None:
        query = query.limit(count)
    return [shard_of(row) for row in connection.execute(query).mappings()]


def read_states(connection: sa.Connection, job_id: str, *states: str) -> list[Shard]:
    """All shards of a job in these states, without what they hold and what they gave."""
    columns = [column for column in shards.c if column.name not in _LARGE]
    query = sa.select(*columns).where(shards.c.job_id == job_id, shards.c.state.in_(states)).order_by(shards.c.number)
    return [shard_of(row) for row in connection.execute(query).mappings()]


def insert(connection: sa.Connection, new: Iterable[Shard]) -> None:
    """Shards that are new."""
    connection.execute(sa.insert(shards), [values_of(shard) for shard in new])


def update(connection: sa.Connection, changes: Iterable[tuple[Shard, Shard]]) -> None:
    """Shards before and after, of one job: each kind of change is one statement, and holds for the attempts read."""
    kinds: list[tuple[str, int, Values, list[int]]] = []
    for before, after in changes:
        changed = differences(values_of(before), values_of(after))
        if not changed:
            continue
        kind = (before.job_id, before.attempt, changed)
        numbers = next((known[3] for known in kinds if known[:3] == kind), None)
        if numbers is None:
            numbers = []
            kinds.append((*kind, numbers))
        numbers.append(before.number)
    for job_id, attempt, changed, numbers in kinds:
        for start in range(0, len(numbers), IN_MAX):
            some = numbers[start : start + IN_MAX]
            mine = sa.and_(shards.c.job_id == job_id, shards.c.number.in_(some), shards.c.attempt == attempt)
            written = connection.execute(sa.update(shards).where(mine).values(changed)).rowcount
            assert written == len(some), f"{written} of {len(some)} shards of {job_id} were as they had been read"


def claimable(connection: sa.Connection, job_id: str, count: int, now_us: int, dead: Collection[Owner]) -> list[Shard]:
    """Shards that `job_progress.claimable` lets through, the lowest numbers; those just being renewed are left out."""
    found: list[Shard] = []
    for which in _claimable(now_us, dead):
        query = _by_number(job_id, *which).limit(count).with_for_update(skip_locked=True)
        found += [shard_of(row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda shard: shard.number)[:count]


def any_claimable(now_us: int, dead: Collection[Owner]) -> sa.ColumnElement[bool]:
    """Whether a job of the statement that this is part of has such shards."""
    return sa.or_(*(sa.exists().where(shards.c.job_id == jobs.c.id, *which) for which in _claimable(now_us, dead)))


def _claimable(now_us: int, dead: Collection[Owner]) -> Iterable[tuple[sa.ColumnElement[bool], ...]]:
    """Those that are ready, and those that were lost: by themselves, so that an index leads to the lowest numbers."""
    lost = shards.c.lease_until_us <= now_us
    if dead:
        lost = sa.or_(lost, shards.c.owner.in_([str(owner) for owner in dead]))
    return (shards.c.state == "ready", shards.c.ready_us <= now_us), (shards.c.state == "claimed", lost)


def _by_number(job_id: str, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(shards).where(shards.c.job_id == job_id, *which).order_by(shards.c.number)


def lock_jobs_of(connection: sa.Connection, owner: Owner) -> None:
    """Nobody else changes what an owner holds meanwhile; locked by id, so that no two wait for each other in a ring."""
    mine = sa.select(shards.c.job_id).where(shards.c.owner == str(owner))
    connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(mine)).order_by(jobs.c.id).with_for_update())


def renew(connection: sa.Connection, owner: Owner, lease_until_us: int) -> None:
    """Everything that an owner holds, in one statement. Its jobs are locked by then."""
    mine = sa.and_(shards.c.owner == str(owner), shards.c.state == "claimed")
    connection.execute(sa.update(shards).where(mine).values(lease_until_us=lease_until_us))


def held(connection: sa.Connection, owner: Owner) -> list[tuple[str, int, Any]]:
    """What an owner holds: the job, the shard's number, and what is wanted of the job."""
    query = sa.select(shards.c.job_id, shards.c.number, jobs.c.wanted).join(jobs, jobs.c.id == shards.c.job_id)
    mine = sa.and_(shards.c.owner == str(owner), shards.c.state == "claimed")
    return [(job_id, number, wanted) for job_id, number, wanted in connection.execute(query.where(mine))]
