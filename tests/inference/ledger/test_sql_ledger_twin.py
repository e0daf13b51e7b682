"""Whatever is done to a ledger in a database and to its twin in memory, both say and hold the same."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from inference.database.database import open_database
from inference.errors import InferenceError
from inference.job import RunSettings
from inference.ledger.ledger import JobQuery, Ledger
from inference.ledger.memory_ledger import MemoryLedger
from inference.ledger.sql_ledger import SqlLedger
from inference.request import LIVE_PRIORITIES
from inference.shard import Claim
from tests.inference.ledger.ledger_bench import ANN, BOB, END, LEASE_US, RETRY, WAIT, new_job, outcome, ranges

STEPS = 250
JOBS = [f"job_{number}" for number in range(4)]
Step = Callable[[Ledger], object]


def any_step(random: Random, claims: list[Claim]) -> Step:
    """Something that a worker or a caller might do next; the arguments are drawn now, so that both get the same."""
    owner, job_id = random.choice([ANN, BOB]), random.choice(JOBS)
    count, failed = random.randint(1, 3), random.choice([0, 0, 0, 1])
    wanted, run = random.choice(["run", "pause", "cancel"]), RunSettings(random.choice(list(LIVE_PRIORITIES)))
    named, dead = random.choice([None, None, job_id]), random.choice([[], [], [ANN]])
    kind = random.choice(
        ["create", *["claim"] * 4, "renew", *["complete"] * 6, *["fail"] * 2, "release", "want", "del"]
    )
    if kind == "create":
        return lambda ledger: _missing(ledger, job_id) and ledger.create(new_job(job_id, run=run))
    if kind == "claim":
        return lambda ledger: ledger.claim(owner, count, LEASE_US, named, dead)
    if kind == "renew":
        return lambda ledger: ledger.renew(owner, LEASE_US)
    if kind == "want":
        return lambda ledger: ledger.want(job_id, wanted, random_run)
    if kind == "del":
        return lambda ledger: ledger.delete(job_id)
    if not claims:
        return lambda ledger: ledger.owners()
    claim = random.choice(claims[-6:])
    if kind == "fail":
        failure = random.choice([RETRY, RETRY, RETRY, WAIT, END])
        return lambda ledger: ledger.fail(claim, failure)
    if kind == "release":
        return lambda ledger: ledger.release(claim)
    if claim.kind == "plan":
        rows = random.choice([10, None])
        return lambda ledger: ledger.complete_plan(claim, ranges(3, rows), None if rows is None else 30)
    return lambda ledger: ledger.complete(claim, outcome(10, failed))


random_run = RunSettings(max_error_rate=0.2)


def _missing(ledger: Ledger, job_id: str) -> bool:
    return job_id not in [job.id for job in ledger.jobs(JobQuery()).jobs]


def told(ledger: Ledger, step: Step) -> object:
    """What a step gives, or the error that it raises."""
    try:
        return step(ledger)
    except InferenceError as error:
        return type(error), str(error)


def content(ledger: Ledger) -> object:
    """Everything that a ledger holds."""
    found = ledger.jobs(JobQuery(count=10)).jobs
    owners = sorted(map(str, ledger.owners()))
    return found, [ledger.shards(job.id, -1, 100) for job in found], owners


@pytest.mark.parametrize("seed", range(6))
def test_a_ledger_and_its_twin_go_the_same_way(database_url: str, seed: int) -> None:
    random, claims, now_us = Random(seed), [], [1_700_000_000_000_000]
    memory = MemoryLedger(lambda: now_us[0])
    database = SqlLedger(open_database(database_url, clock_us=lambda: now_us[0]))
    seen = set()
    for number in range(STEPS):
        now_us[0] += random.choice([0, 1, 1_000_000, 6_000_000, LEASE_US])
        step = any_step(random, claims)
        given = told(memory, step)
        assert told(database, step) == given, f"step {number}"
        assert content(database) == content(memory), f"step {number}"
        if isinstance(given, list):
            claims += [claim for claim in given if isinstance(claim, Claim)]
        seen |= {job.status for job in memory.jobs(JobQuery()).jobs}
    assert {"queued", "running"} < seen
    database.close()
