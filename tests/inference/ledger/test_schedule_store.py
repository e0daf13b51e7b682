"""Schedules of a ledger: each time makes one job, whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from inference.database.database import open_database
from inference.decisions.schedule import Fire, Skip, due
from inference.job import Dataset, JobSpec, Output
from inference.job_errors import ScheduleNotFound
from inference.ledger.ledger import JobQuery, NewJob
from inference.ledger.recurrence import read_recurrence
from inference.ledger.schedule_store import Schedule, ScheduleStore
from inference.ledger.sql_ledger import SqlLedger
from tests.inference.ledger.ledger_bench import new_job

SPEC = JobSpec("m", Dataset(("rows.csv",), "csv"), Output("out.csv", "csv"))
NIGHTLY = Schedule("nightly", SPEC, "30 2 * * *", "Europe/Berlin", "skip", next_us=100)


@pytest.fixture
def ledger(database_url: str) -> Iterator[SqlLedger]:
    ledger = SqlLedger(open_database(database_url))
    yield ledger
    ledger.close()


@pytest.fixture
def store(ledger: SqlLedger) -> ScheduleStore:
    return ScheduleStore(ledger.database)


def job_of(schedule: Schedule, decision: Fire, number: int = 1) -> NewJob:
    return new_job(f"job_{number}", schedule=schedule.name, fire_us=decision.fire_us)


def test_schedules_are_kept_replaced_and_forgotten(store: ScheduleStore) -> None:
    hourly = Schedule("hourly", SPEC, "every 1h", next_us=50)
    store.put(NIGHTLY)
    store.put(hourly)
    assert store.schedules() == [hourly, NIGHTLY]
    later = replace(NIGHTLY, when="@daily", enabled=False, last_us=7)
    store.put(later)
    assert store.schedule("nightly") == later
    store.delete("hourly")
    assert store.schedules() == [later]
    for missing in (store.schedule, store.delete):
        with pytest.raises(ScheduleNotFound, match="'hourly'") as caught:
            missing("hourly")
        assert "nightly" in caught.value.details[0].accepted


def test_what_is_due_is_enabled_and_past_the_longest_due_first(store: ScheduleStore) -> None:
    for name, next_us in (("a", 30), ("b", 10), ("c", 20), ("d", None), ("e", 41)):
        store.put(replace(NIGHTLY, name=name, next_us=next_us, enabled=name != "c"))
    assert [schedule.name for schedule in store.due(40)] == ["b", "a"]
    assert store.now_us() > 1_700_000_000_000_000


def test_a_time_makes_one_job_and_the_next_time_is_known_with_it(ledger: SqlLedger, store: ScheduleStore) -> None:
    store.put(NIGHTLY)
    decision = Fire(100, 200)
    made = store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision))
    assert made is not None
    assert made == ledger.job("job_1")
    assert made.schedule == "nightly"
    assert store.schedule("nightly") == replace(NIGHTLY, next_us=200, last_us=100)
    assert store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision, 2)) is None
    assert not store.skip(NIGHTLY, Skip(300))
    assert [job.id for job in ledger.jobs(JobQuery()).jobs] == ["job_1"]


def test_times_that_were_missed_are_left_out_once(ledger: SqlLedger, store: ScheduleStore) -> None:
    store.put(NIGHTLY)
    assert store.skip(NIGHTLY, Skip(None))
    assert store.schedule("nightly").next_us is None
    assert store.due(10**15) == []
    assert not store.skip(NIGHTLY, Skip(300))
    assert ledger.jobs(JobQuery()).jobs == ()


def test_a_schedule_that_was_changed_or_is_gone_does_not_fire(ledger: SqlLedger, store: ScheduleStore) -> None:
    decision = Fire(100, 200)
    for changed in (replace(NIGHTLY, next_us=101), replace(NIGHTLY, enabled=False)):
        store.put(changed)
        assert store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision)) is None
    store.delete("nightly")
    assert store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision)) is None
    assert ledger.jobs(JobQuery()).jobs == ()


def test_a_time_that_was_set_back_makes_no_second_job(ledger: SqlLedger, store: ScheduleStore) -> None:
    store.put(NIGHTLY)
    decision = Fire(100, 200)
    assert store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision)) is not None
    store.put(NIGHTLY)
    assert store.fire(NIGHTLY, decision, job_of(NIGHTLY, decision, 2)) is None
    assert store.schedule("nightly").next_us == 200
    assert len(ledger.jobs(JobQuery()).jobs) == 1


def test_a_job_of_another_time_is_a_bug(store: ScheduleStore) -> None:
    store.put(NIGHTLY)
    with pytest.raises(AssertionError, match="another time"):
        store.fire(NIGHTLY, Fire(100, 200), job_of(NIGHTLY, Fire(101, 200)))


def test_several_servers_that_look_at_once_make_each_job_once(database_url: str) -> None:
    first_us, step_us, times = 1_700_000_000_000_000, 60_000_000, 12
    anchored = Schedule("often", SPEC, "every 1m", next_us=first_us)
    ledgers = [SqlLedger(open_database(database_url)) for _ in range(4)]
    ScheduleStore(ledgers[0].database).put(anchored)
    recurrence, zone = read_recurrence(anchored.when, anchored.zone, first_us)

    def serve(number: int) -> list[int]:
        store, made = ScheduleStore(ledgers[number].database), []
        for time in range(times):  # each of them sees each minute once, and looks for what is due
            for schedule in store.due(first_us + time * step_us):
                assert schedule.next_us is not None
                decision = due(schedule.next_us, first_us + time * step_us, "once", recurrence, zone)
                assert isinstance(decision, Fire)
                if store.fire(schedule, decision, job_of(schedule, decision, decision.fire_us * 10 + number)):
                    made.append(decision.fire_us)
        return made

    with ThreadPoolExecutor(4) as pool:
        made = [fire_us for found in pool.map(serve, range(4)) for fire_us in found]
    assert len(made) == len(set(made)) == len(ledgers[0].jobs(JobQuery()).jobs)
    assert first_us in made
    assert first_us + (times - 1) * step_us in {*made, ScheduleStore(ledgers[0].database).schedule("often").last_us}
    for ledger in ledgers:
        ledger.close()
