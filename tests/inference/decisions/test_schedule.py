"""When schedules fire: clocks that are changed, runs that were missed, servers that look at once."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decisions.schedule import Fire, Missed, Recurrence, Skip, due, interval, next_fire

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")  # 2025: 30 March 02:00 becomes 03:00, 26 October 03:00 becomes 02:00
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


def us(text: str) -> int:
    """An instant in UTC, such as 2025-03-30T01:00."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def instant(found_us: int | None) -> str | None:
    """The other way round."""
    if found_us is None:
        return None
    return datetime.fromtimestamp(found_us / 1e6, UTC).replace(tzinfo=None).isoformat(timespec="minutes")


def at(*times: str) -> Recurrence:
    """Daily at these times of the wall clock."""

    def following(local: datetime) -> datetime:
        days = (local.date() + timedelta(days=days) for days in (0, 1))
        moments = [datetime.fromisoformat(f"{day.isoformat()}T{time}") for day in days for time in times]
        return min(moment for moment in moments if moment > local)

    return following


def every(minutes: int) -> Recurrence:
    """Whenever the minute of the wall clock's day is a multiple."""
    return interval(minutes * MINUTE_US, 0)


def cron(expression: str) -> Recurrence:
    """As the crontab of a machine writes it."""
    return lambda local: croniter(expression, local).get_next(datetime)


def fires(recurrence: Recurrence, zone: tzinfo, after: str, count: int) -> list[str | None]:
    """So many instants in a row, in UTC."""
    found: list[str | None] = []
    last_us: int | None = us(after)
    for _ in range(count):
        last_us = next_fire(last_us, recurrence, zone) if last_us is not None else None
        found.append(instant(last_us))
    return found


# ---- clocks that are changed -----------------------------------------------------------------------------------------


def test_a_daily_time_follows_the_wall_clock() -> None:
    assert fires(at("06:00"), BERLIN, "2025-03-28T05:00", 3) == [
        "2025-03-29T05:00",
        "2025-03-30T04:00",
        "2025-03-31T04:00",
    ]


def test_a_skipped_time_fires_once_when_the_clock_is_changed() -> None:
    assert fires(at("02:30"), BERLIN, "2025-03-29T12:00", 2) == ["2025-03-30T01:00", "2025-03-31T00:30"]


def test_skipped_times_fire_together_and_with_the_one_at_the_change() -> None:
    assert fires(at("02:10", "02:50", "03:00", "03:10"), BERLIN, "2025-03-30T00:59", 3) == [
        "2025-03-30T01:00",
        "2025-03-30T01:10",
        "2025-03-31T00:10",
    ]


def test_a_doubled_time_fires_the_first_time_alone() -> None:
    assert fires(at("02:30"), BERLIN, "2025-10-25T12:00", 2) == ["2025-10-26T00:30", "2025-10-27T01:30"]


def test_from_within_the_doubled_hour_it_goes_on_behind_it() -> None:
    assert fires(every(20), BERLIN, "2025-10-26T00:30", 2) == ["2025-10-26T00:40", "2025-10-26T02:00"]
    assert fires(every(20), BERLIN, "2025-10-26T01:10", 1) == ["2025-10-26T02:00"]


def test_an_interval_does_not_care_for_clocks() -> None:
    hourly = interval(HOUR_US, us("2025-01-01T00:30"))
    assert fires(hourly, UTC, "2025-10-26T00:30", 3) == ["2025-10-26T01:30", "2025-10-26T02:30", "2025-10-26T03:30"]
    assert fires(hourly, UTC, "2024-12-31T23:29", 2) == ["2024-12-31T23:30", "2025-01-01T00:30"]


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="an interval of 0"):
        interval(0, 0)


def test_what_never_comes_again() -> None:
    assert next_fire(0, lambda local: None, BERLIN) is None
    last = datetime(2025, 1, 1)  # noqa: DTZ001 - a wall clock's time
    once: Recurrence = lambda local: last if local < last else None  # noqa: E731 - read beside its use
    assert fires(once, UTC, "2024-01-01T00:00", 2) == ["2025-01-01T00:00", None]
    assert next_fire(us("9999-12-31T23:30"), every(60), UTC) is None


def test_a_recurrence_that_stands_still_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="a recurrence gave"):
        next_fire(0, lambda local: local, UTC)


def test_a_crontab_is_a_recurrence() -> None:
    assert fires(cron("30 2 * * 7"), BERLIN, "2025-03-28T00:00", 2) == ["2025-03-30T01:00", "2025-04-06T00:30"]


def shown(minutes: Collection[int], zone: tzinfo, start_us: int, end_us: int) -> list[int]:
    """The fires of every minute of the day that is among `minutes`, found by watching the clock: a time has come when
    the clock shows it, or more, for the first time."""

    def clock(now_us: int) -> datetime:
        return datetime.fromtimestamp(now_us / 1e6, zone).replace(tzinfo=None, fold=0)

    found, seen = [], clock(start_us)
    for now_us in range(start_us + MINUTE_US, end_us + 1, MINUTE_US):
        rings = False
        while seen < clock(now_us):
            seen += timedelta(minutes=1)
            rings |= seen.hour * 60 + seen.minute in minutes
        found += [now_us] if rings else []
    return found


CHANGES = [
    (BERLIN, "2025-03-30T01:00"),
    (BERLIN, "2025-10-26T01:00"),
    (ZoneInfo("Australia/Lord_Howe"), "2025-10-04T15:30"),  # half an hour
    (ZoneInfo("Australia/Lord_Howe"), "2025-04-05T15:00"),
    (ZoneInfo("America/Sao_Paulo"), "2018-11-04T03:00"),  # midnight does not exist
    (ZoneInfo("America/Sao_Paulo"), "2018-02-18T02:00"),
    (ZoneInfo("Pacific/Apia"), "2011-12-30T10:00"),  # a whole day is skipped
    (ZoneInfo("Asia/Kathmandu"), "2025-01-01T00:00"),  # nothing changes, and it is 5:45 ahead
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CHANGES), st.lists(st.integers(0, 1439), min_size=1, max_size=5), st.integers(3 * 60, 15 * 60))
def test_it_is_what_somebody_sees_who_watches_the_clock(
    change: tuple[tzinfo, str], minutes: list[int], before: int
) -> None:
    zone, around = change
    start_us, end_us = us(around) - before * MINUTE_US, us(around) + 15 * HOUR_US
    daily = at(*(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes))
    found, last_us = [], start_us
    while (fire_us := next_fire(last_us, daily, zone)) is not None and fire_us <= end_us:
        found.append(fire_us)
        last_us = fire_us
    assert found == shown(minutes, zone, start_us, end_us)


# ---- runs that were missed -------------------------------------------------------------------------------------------

HOURLY = every(60)


def decided(next_run: str, now: str, missed: Missed, recurrence: Recurrence = HOURLY) -> tuple[str | None, ...]:
    """What fires, and what is next."""
    decision = due(us(next_run), us(now), missed, recurrence, UTC)
    assert decision is not None
    return instant(decision.fire_us if isinstance(decision, Fire) else None), instant(decision.next_us)


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_what_is_punctual_fires(missed: Missed) -> None:
    assert due(us("2025-01-01T05:00"), us("2025-01-01T05:00") - 1, missed, HOURLY, UTC) is None
    for now in ("2025-01-01T05:00", "2025-01-01T05:01"):
        assert decided("2025-01-01T05:00", now, missed) == ("2025-01-01T05:00", "2025-01-01T06:00")


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    assert decided("2025-01-01T03:00", "2025-01-01T05:30", "once") == ("2025-01-01T03:00", "2025-01-01T06:00")
    assert decided("2024-01-01T03:00", "2025-01-01T05:00", "once") == ("2024-01-01T03:00", "2025-01-01T06:00")


def test_what_was_missed_is_left_out() -> None:
    assert decided("2025-01-01T03:00", "2025-01-01T05:30", "skip") == (None, "2025-01-01T06:00")
    assert decided("2025-01-01T05:00", "2025-01-01T05:02", "skip") == (None, "2025-01-01T06:00")


def test_of_those_missed_the_punctual_one_still_fires() -> None:
    assert decided("2025-01-01T03:00", "2025-01-01T05:01", "skip") == ("2025-01-01T05:00", "2025-01-01T06:00")
    assert decided("2025-01-01T03:00", "2025-01-01T05:01", "skip", every(1)) == (
        "2025-01-01T05:01",
        "2025-01-01T05:02",
    )


def test_a_last_run_has_none_behind_it() -> None:
    never: Recurrence = lambda local: None  # noqa: E731 - read beside its use
    assert due(5, 5, "once", never, UTC) == Fire(5, None)
    assert due(5, 5, "skip", never, UTC) == Fire(5, None)
    assert due(5, 10**9, "skip", never, UTC) == Skip(None)


@given(
    st.sampled_from(["once", "skip"]),
    st.integers(1, 180),
    st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 200)), max_size=60),
)
def test_servers_that_look_whenever_they_like_make_one_job_for_a_time(
    missed: Missed, minutes: int, looks: list[tuple[int, int]]
) -> None:
    """Two servers, one of which may have read the schedule's row before the other wrote it; clocks may go back."""
    recurrence = every(minutes)
    now_us = us("2025-01-01T00:00")
    row_us = next_fire(now_us, recurrence, UTC)
    read, first_us, looked_us = [row_us, row_us], row_us, now_us
    made: list[int] = []
    for server, passed in looks:
        now_us += passed * MINUTE_US
        held_us = read[server]
        assert held_us is not None
        decision = due(held_us, now_us, missed, recurrence, UTC)
        read[server] = row_us
        if decision is None or row_us != held_us:  # the row is written, and the job made, only over what was read
            continue
        looked_us, row_us = max(looked_us, now_us), decision.next_us
        if isinstance(decision, Fire):
            made.append(decision.fire_us)
            assert decision.fire_us <= now_us
            assert missed == "once" or now_us - decision.fire_us <= MINUTE_US
        assert row_us is not None
        assert row_us > now_us
    assert made == sorted(set(made))
    assert all(fire_us % (minutes * MINUTE_US) == 0 for fire_us in made)
    if missed == "once":  # each stretch between two looks has its run, and no look has more than one
        assert (not made) is (looked_us < first_us)
