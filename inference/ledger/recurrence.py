"""When something recurs, as people write it: a cron expression of a time zone, or an interval."""

from __future__ import annotations

import re
from datetime import datetime, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter
from croniter.croniter import CroniterError

from inference.decisions.schedule import Recurrence, interval
from inference.errors import InvalidValues
from inference.fault import Fault, nearest, quoted

ACCEPTED = (
    "a cron expression of five fields such as '30 6 * * 1-5', one of @hourly, @daily, @weekly, @monthly, @yearly, or "
    "an interval such as 'every 15m', 'every 6h', 'every 2d'"
)
YEARS_MAX = 50  # a cron expression that does not come within these never does
_ALIASES = frozenset({"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"})
_EVERY = re.compile(r"every\s+([1-9][0-9]{0,5})\s*([mhd])")
_UNIT_US = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SOME_DAY = datetime(2025, 1, 1)  # noqa: DTZ001 - a wall clock's time has no zone


def read_recurrence(when: str, zone: str, anchor_us: int = 0) -> tuple[Recurrence, tzinfo]:
    """What recurs, and the zone whose local times it is asked by (decisions/schedule.py).

    An interval is counted from `anchor_us`, and asked by UTC, since it does not follow a wall clock that is changed.
    Raises InvalidValues with what is wrong of both.
    """
    place, faults = _zone(zone)
    every = _EVERY.fullmatch(when.strip())
    if every is None:
        faults += _cron_faults(when)
    if faults:
        raise InvalidValues(faults)
    if every is not None:
        return interval(int(every[1]) * _UNIT_US[every[2]], anchor_us), timezone.utc
    return _cron(when.strip()), place


def _cron(expression: str) -> Recurrence:
    def following(local: datetime) -> datetime | None:
        try:
            found = croniter(expression, local, max_years_between_matches=YEARS_MAX).get_next(datetime)
        except (ValueError, OverflowError):  # not within those years, or beyond the year 9999
            return None
        assert isinstance(found, datetime), f"{expression!r} gave {found!r}"
        return found

    return following


def _cron_faults(when: str) -> list[Fault]:
    expression = when.strip()
    if expression not in _ALIASES and len(expression.split()) != 5:
        return [Fault("when", quoted(when), ACCEPTED)]
    if re.search(r"(?<![A-Za-z])[HhRr](?![A-Za-z])", expression):  # chance would give each server another time
        return [Fault("when", quoted(when), f"{ACCEPTED}, without H and R")]
    try:
        croniter(expression, _SOME_DAY)
    except (CroniterError, ValueError) as error:
        return [Fault("when", f"{quoted(when)} ({error})", ACCEPTED)]
    return [] if _cron(expression)(_SOME_DAY) else [Fault("when", quoted(when), "a date that is in a calendar")]


def _zone(zone: str) -> tuple[tzinfo, list[Fault]]:
    if zone == "UTC":
        return timezone.utc, []
    try:
        return ZoneInfo(zone), []
    except (KeyError, ValueError, OSError):  # a name that is unknown, leads out of the folder, or is no zone's file
        like = nearest(zone, available_timezones())
        hint = f"; did you mean {like!r}?" if like else ""
        return timezone.utc, [Fault("zone", quoted(zone), f"a time zone such as 'Europe/Berlin', or 'UTC'{hint}")]
