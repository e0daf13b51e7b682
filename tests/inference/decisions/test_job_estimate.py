"""When a job will be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.job_estimate import Work, completion_us, row_seconds, work_left
from inference.job import Dataset, Job, JobCounts, JobSpec, Output

MINUTE_US = 60_000_000


def job(counts: JobCounts) -> Job:
    spec = JobSpec("m", Dataset(("a.csv",), "csv"), Output("o.csv"))
    return Job("j", "", "m/1", "", spec, "running", "run", counts, 0)


def test_what_is_left() -> None:
    assert work_left(job(JobCounts(11, 4, 1000, 400)), 0.1, 100) == Work(600, 0.1, 6)
    assert work_left(job(JobCounts(0, 0, 1000)), 0.1, 300) == Work(1000, 0.1, 4)
    assert work_left(job(JobCounts(11, 10, 1000, 1000)), 0.1, 100) == Work(0, 0.1, 1)
    assert work_left(job(JobCounts(11, 11, 1000, 1000)), 0.1, 100) == Work(0, 0.1, 1)
    assert work_left(job(JobCounts(11, 4, None, 400)), 0.1, 100) is None


def test_a_row_takes_what_is_known_until_more_is_seen() -> None:
    assert row_seconds(None, 0, 0.0) is None
    assert row_seconds(None, 200, 50.0) == 0.25
    assert row_seconds(0.1, 0, 0.0) == pytest.approx(0.1)
    assert row_seconds(0.1, 100_000, 30_000.0) == pytest.approx(0.2)


def test_rows_by_workers_by_their_share() -> None:
    assert completion_us(7, Work(600, 0.1, 6), [], 1) == 7 + MINUTE_US
    assert completion_us(7, Work(600, 0.1, 6), [], 2) == 7 + MINUTE_US // 2
    assert completion_us(7, Work(600, 0.1, 6), [], 2, share=0.25) == 7 + 2 * MINUTE_US


def test_the_last_round_of_shards_keeps_few_workers_busy() -> None:
    assert completion_us(0, Work(600, 0.1, 6), [], 4) == MINUTE_US // 3  # 2 rounds of 10 s
    assert completion_us(0, Work(600, 0.1, 6), [], 100) == MINUTE_US // 6


def test_those_ahead_are_waited_for() -> None:
    ahead = [Work(600, 0.2, 3), Work(100, 0.6, 1)]
    assert completion_us(0, Work(600, 0.1, 6), ahead, 2) == MINUTE_US * 3 // 2 + MINUTE_US // 2


def test_what_cannot_be_said_is_not_said() -> None:
    work = Work(600, 0.1, 6)
    assert completion_us(0, None, [], 1) is None
    assert completion_us(0, work, [None], 1) is None
    assert completion_us(0, work, [], 0) is None
    assert completion_us(0, work, [], 1, share=0.0) is None


@given(st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 32), st.integers(1, 32))
def test_more_workers_are_never_later_and_nobody_beats_the_sum_of_the_work(
    rows: int, shards: int, workers: int, more: int
) -> None:
    work = Work(rows, 0.001, shards)
    few, many = completion_us(0, work, [], workers), completion_us(0, work, [], workers + more)
    assert few is not None
    assert many is not None
    assert many <= few
    assert few >= round(rows * 0.001 / workers * 1e6) - 1
