"""When a job will be done, from the rows that are left and the time that a row takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec

from inference.job import Job

SHARE_MIN = 0.01  # a job that gets less is not estimated: nobody plans by a time that is weeks away


class Work(msgspec.Struct, frozen=True):
    """What is left of a job: rows, seconds that a row takes one worker, and the shards that it can be shared out by."""

    rows: int
    row_s: float
    shards: int = 1


def work_left(job: Job, row_s: float, shard_rows: int) -> Work | None:
    """What is left of a job; None as long as nobody knows how many rows it has."""
    counts = job.counts
    if counts.rows_total is None:
        return None
    rows = max(counts.rows_total - counts.rows_done, 0)
    # The plan's shards hold rows but for the last; before there is a plan, as many as it will make.
    shards = counts.shards - 1 - counts.shards_done if counts.shards else ceil(rows / shard_rows)
    return Work(rows, row_s, max(shards, 1))


def row_seconds(known_s: float | None, rows: int, worked_s: float, known_rows: int = 100_000) -> float | None:
    """Seconds that a row takes one worker, from what is known of the model and what was seen of the job.

    `known_s` weighs as much as `known_rows` rows of the job; None if nothing was ever measured. `worked_s` is the wall
    time of the job's shards summed up, `rows` what they held.
    """
    if known_s is None:
        return worked_s / rows if rows else None
    return (known_s * known_rows + worked_s) / (known_rows + rows)


def completion_us(
    now_us: int, work: Work | None, ahead: Sequence[Work | None], workers: int, share: float = 1.0
) -> int | None:
    """When the job will be done, in µs since 1970; None while that cannot be said.

    `ahead` are the jobs whose turn comes before, which keep all workers busy until they are done. Then this one has
    `workers`, whole rounds of its shards, and of each worker the `share` (0 to 1) that live callers leave it.
    """
    if work is None or share < SHARE_MIN or workers < 1:
        return None
    before_s = 0.0
    for other in ahead:
        if other is None:
            return None
        before_s += other.rows * other.row_s / workers
    rounds = ceil(work.shards / workers)
    own_s = rounds * work.rows * work.row_s / work.shards
    return now_us + round((before_s + own_s) / share * 1e6)
