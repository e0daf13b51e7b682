"""When a schedule fires. Pure: the recurrence, the time zone and `now_us` are arguments; instants are µs since 1970.

A recurrence gives the next local time after a local time, as a wall clock shows it, or None for never again. What a
wall clock does when summer time begins and ends:

- A local time that is **skipped** (02:30 where 02:00 becomes 03:00) fires once, at the moment of the change. Several
  that are skipped fire there together, as one.
- A local time that is **doubled** (02:30 where 03:00 becomes 02:00) fires the first time it comes, and not the second.

So what is to run daily runs each day once. What is to run every ten minutes whatever the clock is an `interval`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Literal

import msgspec

Recurrence = Callable[[datetime], datetime | None]
Missed = Literal["once", "skip"]

ON_TIME_US = 60_000_000  # a server that starts, or looks up late, still takes a fire that is no older as punctual
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class Fire(msgspec.Struct, frozen=True):
    """Make the job of `fire_us`; then `next_us` is the next time, None for never again."""

    fire_us: int
    next_us: int | None


class Skip(msgspec.Struct, frozen=True):
    """What was due is too late; `next_us` is the next time, None for never again."""

    next_us: int | None


def interval(every_us: int, anchor_us: int) -> Recurrence:
    """Every so many microseconds counted from `anchor_us`; to be used with UTC, whose clock is never changed.

    Raises ValueError unless `every_us` is above 0.
    """
    if every_us <= 0:
        raise ValueError(f"an interval of {every_us} µs; it has to be above 0")

    def following(local: datetime) -> datetime | None:
        passed_us = _instant_us(local.replace(tzinfo=timezone.utc)) - anchor_us
        try:
            return _wall(anchor_us + (passed_us // every_us + 1) * every_us, timezone.utc)
        except OverflowError:  # beyond the year 9999
            return None

    return following


def next_fire(after_us: int, recurrence: Recurrence, zone: tzinfo) -> int | None:
    """The first instant after `after_us` at which it fires. Asserts that the recurrence goes forward."""
    local = _wall(after_us, zone)
    while (following := recurrence(local)) is not None:
        assert following > local, f"a recurrence gave {following} after {local}"
        fire_us = _first_us(following, zone)
        if fire_us > after_us:
            return fire_us
        local = following  # the second time that the clock shows it
    return None


def due(
    next_us: int, now_us: int, missed: Missed, recurrence: Recurrence, zone: tzinfo, on_time_us: int = ON_TIME_US
) -> Fire | Skip | None:
    """What is to be done about a schedule whose next time is `next_us`; None if that is still to come.

    Times that were missed, as nobody looked, are made up for by one run (`once`), or left out (`skip`); of those that
    are no older than `on_time_us` the last one still fires. However many servers look, no time fires twice, and none
    after a later one, if the shell writes the new time only over the `next_us` that it has read, and makes the job in
    the same transaction.
    """
    if now_us < next_us:
        return None
    if missed == "once":
        return Fire(next_us, next_fire(now_us, recurrence, zone))
    fire_us = next_us if now_us - next_us <= on_time_us else None
    following = next_fire(max(next_us, now_us - on_time_us - 1), recurrence, zone)
    while following is not None and following <= now_us:
        fire_us, following = following, next_fire(following, recurrence, zone)
    return Skip(following) if fire_us is None else Fire(fire_us, following)


# ---- inside ----------------------------------------------------------------------------------------------------------


def _instant_us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _wall(instant_us: int, zone: tzinfo) -> datetime:
    """What the wall clock shows, without a zone."""
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(zone).replace(tzinfo=None, fold=0)


def _first_us(local: datetime, zone: tzinfo) -> int:
    """The first instant at which the wall clock shows this time, or at which it jumps over it."""
    first_us = _instant_us(local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc))
    if _wall(first_us, zone) == local:
        return first_us
    # Skipped: by PEP 495 fold 0 lies behind the change and fold 1 before it, as far as the clock jumped.
    before_us, after_us = _instant_us(local.replace(tzinfo=zone, fold=1).astimezone(timezone.utc)), first_us
    while after_us - before_us > 1:
        middle_us = (before_us + after_us) // 2
        if _wall(middle_us, zone) < local:
            before_us = middle_us
        else:
            after_us = middle_us
    return after_us
