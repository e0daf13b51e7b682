"""Cron expressions and intervals, and when they come where clocks are changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.schedule import next_fire
from inference.errors import InvalidValues
from inference.ledger.recurrence import read_recurrence

HOUR_US = 3_600_000_000
BERLIN = "Europe/Berlin"  # 2025: 30 March 02:00 becomes 03:00, 26 October 03:00 becomes 02:00


def us(text: str) -> int:
    """An instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * 1_000_000


def fires(when: str, zone: str, after: str, count: int) -> list[str]:
    """So many instants in a row, in UTC."""
    recurrence, place = read_recurrence(when, zone)
    found, last_us = [], us(after)
    for _ in range(count):
        following = next_fire(last_us, recurrence, place)
        assert following is not None
        last_us = following
        found.append(datetime.fromtimestamp(last_us / 1e6, timezone.utc).isoformat(timespec="minutes")[:16])
    return found


@pytest.fixture(params=["UTC", "America/New_York", "Pacific/Auckland"], autouse=True)
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What zone the machine itself has makes no difference."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_workdays_at_half_past_six() -> None:
    assert fires("30 6 * * 1-5", "UTC", "2025-06-05T12:00", 3) == [
        "2025-06-06T06:30",
        "2025-06-09T06:30",
        "2025-06-10T06:30",
    ]


def test_a_time_that_summer_time_skips_fires_once_at_the_change() -> None:
    assert fires("30 2 * * *", BERLIN, "2025-03-29T00:00", 3) == [
        "2025-03-29T01:30",
        "2025-03-30T01:00",
        "2025-03-31T00:30",
    ]


def test_a_time_that_comes_twice_fires_the_first_time() -> None:
    assert fires("30 2 * * *", BERLIN, "2025-10-25T12:00", 2) == ["2025-10-26T00:30", "2025-10-27T01:30"]


def test_an_interval_does_not_follow_clocks_that_are_changed() -> None:
    expected = [f"2025-10-26T0{hour}:{minute}" for hour in (0, 1) for minute in ("00", "20", "40")]
    assert fires("every 20m", BERLIN, "2025-10-25T23:59", 6) == expected
    assert fires("every 6h", BERLIN, "2025-03-29T23:00", 3) == [
        "2025-03-30T00:00",
        "2025-03-30T06:00",
        "2025-03-30T12:00",
    ]


def test_an_interval_is_counted_from_its_anchor() -> None:
    recurrence, place = read_recurrence("every 2d", "UTC", us("2025-06-05T07:10"))
    assert next_fire(us("2025-06-06T00:00"), recurrence, place) == us("2025-06-07T07:10")


@given(st.integers(0, 2 * 365 * 24 * 60), st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/St_Johns"]))
def test_a_daily_time_comes_once_each_day(minutes: int, zone: str) -> None:
    recurrence, place = read_recurrence("15 2 * * *", zone)
    first = next_fire(us("2025-01-01T00:00") + minutes * 60_000_000, recurrence, place)
    assert first is not None
    second = next_fire(first, recurrence, place)
    assert second is not None
    assert timedelta(hours=23) <= timedelta(microseconds=second - first) <= timedelta(hours=25)


@pytest.mark.parametrize("when", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "0 0 29 2 *"])
def test_what_cron_knows_is_read(when: str) -> None:
    recurrence, place = read_recurrence(f" {when} ", "UTC")
    assert next_fire(us("2025-01-01T00:00"), recurrence, place) is not None


@pytest.mark.parametrize(
    ("when", "told"),
    [
        *((when, "five fields") for when in ("", "daily", "@reboot", "* * * * * *", "0 0 1 1 * 0 2020")),
        *((when, "five fields") for when in ("61 * * * *", "* * * * 9", "a b c d e", "*/0 * * * *", "5-1/ * * * *")),
        *(
            (when, "every 15m")
            for when in ("every 0m", "every 30s", "every", "every 1.5h", "every -1d", "every 9999999m")
        ),
        *((when, "without H and R") for when in ("R * * * *", "H * * * *", "0 R(1-5) * * *")),
        ("0 0 31 2 *", "in a calendar"),
    ],
)
def test_what_is_no_recurrence_is_refused_with_what_is_accepted(when: str, told: str) -> None:
    with pytest.raises(InvalidValues) as caught:
        read_recurrence(when, "UTC")
    (fault,) = caught.value.details
    assert fault.field == "when"
    assert told in fault.accepted


@pytest.mark.parametrize("zone", ["", "Europe/Berln", "../../etc/passwd", "/etc/localtime", "Europe", "UTC\0"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidValues) as caught:
        read_recurrence("@daily", zone)
    assert [fault.field for fault in caught.value.details] == ["zone"]
    assert ("did you mean 'Europe/Berlin'" in caught.value.details[0].accepted) is (zone == "Europe/Berln")


def test_both_that_are_wrong_are_told_at_once() -> None:
    with pytest.raises(InvalidValues) as caught:
        read_recurrence("never", "Mars/Base")
    assert {fault.field for fault in caught.value.details} == {"when", "zone"}


def test_a_time_beyond_the_calendar_never_comes() -> None:
    recurrence, _ = read_recurrence("0 0 1 1 *", "UTC")
    assert recurrence(datetime.fromisoformat("9999-06-01")) is None
