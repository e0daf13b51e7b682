"""Claims: who gets which shard, leases, dead owners, turns. Part of the ledgers' contract."""

from __future__ import annotations

from inference.job import RunSettings
from inference.request import Priority
from inference.shard import Owner
from tests.inference.ledger.ledger_bench import (
    ANN,
    BOB,
    END,
    LEASE_US,
    SECOND_US,
    Bench,
    events,
    new_job,
    outcome,
    ranges,
    shard,
    start,
    states,
    take,
)


def check_nobody_gets_what_another_has(bench: Bench) -> None:
    """Two workers, two ledgers on one store."""
    start(bench.ledger, 4)
    mine, theirs = bench.ledger.claim(ANN, 3, LEASE_US), bench.peer.claim(BOB, 3, LEASE_US)
    assert [[claim.number for claim in claims] for claims in (mine, theirs)] == [[0, 1, 2], [3]]
    assert bench.peer.claim(BOB, 1, LEASE_US) == []
    assert sorted(map(str, bench.ledger.owners())) == sorted(map(str, (ANN, BOB)))


def check_a_lease_that_ends(bench: Bench) -> None:
    """The shard is another's; who wakes up late changes nothing."""
    ledger = bench.ledger
    job_id = start(ledger)
    late = take(ledger)
    bench.pass_time(LEASE_US - SECOND_US)
    assert [claim.number for claim in ledger.claim(BOB, 1, LEASE_US)] == [1]
    bench.pass_time(2 * SECOND_US)
    taken = take(bench.peer, BOB)
    assert (taken.number, taken.attempt) == (0, 2)
    assert not ledger.complete(late, outcome())
    assert not ledger.fail(late, END)
    assert not ledger.release(late)
    assert shard(ledger, job_id, 0).owner == BOB
    assert ledger.job(job_id).counts.rows_done == 0
    assert ledger.complete(taken, outcome())
    assert not ledger.complete(late, outcome())
    assert not ledger.complete(taken, outcome())
    assert ledger.job(job_id).counts.rows_done == 10
    assert "owner_lost" in events(ledger.job(job_id))


def check_a_late_plan(bench: Bench) -> None:
    """It is made once."""
    ledger = bench.ledger
    assert ledger.create(new_job()) is not None
    late = take(ledger)
    bench.pass_time(LEASE_US)
    plan = take(ledger, BOB)
    assert not ledger.complete_plan(late, ranges(7), 70)
    assert ledger.complete_plan(plan, ranges(2), 20)
    assert not ledger.complete_plan(late, ranges(7), 70)
    assert not ledger.complete_plan(plan, ranges(2), 20)
    assert states(ledger, "job_1") == ["ready", "ready", "waiting"]
    assert ledger.job("job_1").counts.shards == 3


def check_a_lease_that_ended_unnoticed(bench: Bench) -> None:
    """Nobody took the shard, so it is renewed, and completed."""
    ledger = bench.ledger
    start(ledger)
    claim = take(ledger)
    bench.pass_time(2 * LEASE_US)
    assert ledger.renew(ANN, LEASE_US).held == {("job_1", 0)}
    assert [one.number for one in ledger.claim(BOB, 1, LEASE_US)] == [1]
    assert ledger.complete(claim, outcome())


def check_renewing(bench: Bench) -> None:
    """One owner's leases go on; it hears what it lost and what is wanted."""
    ledger = bench.ledger
    start(ledger, 3)
    mine, (theirs,) = ledger.claim(ANN, 2, LEASE_US), ledger.claim(BOB, 1, LEASE_US)
    for _ in range(5):
        bench.pass_time(LEASE_US // 2)
        assert ledger.renew(ANN, LEASE_US).held == {("job_1", 0), ("job_1", 1)}
    assert ledger.complete(mine[0], outcome())
    assert bench.peer.claim(BOB, 5, LEASE_US)[0].number == theirs.number
    renewal = ledger.renew(ANN, LEASE_US)
    assert renewal.held == {("job_1", 1)}
    assert dict(renewal.wanted) == {"job_1": "run"}
    ledger.want("job_1", "pause")
    assert dict(ledger.renew(ANN, LEASE_US).wanted) == {"job_1": "pause"}
    ledger.want("job_1", "cancel")
    assert ledger.renew(ANN, LEASE_US).held == frozenset()


def check_a_dead_owner(bench: Bench) -> None:
    """What it held is free at once, and nothing of others."""
    ledger = bench.ledger
    start(ledger, 3)
    lost, kept = take(ledger, ANN), take(ledger, BOB)
    again = Owner(ANN.host, ANN.boot_id, ANN.pid, "101")  # the same pid used again
    (claim, other) = ledger.claim(again, 5, LEASE_US, dead=[ANN])
    assert (claim.number, claim.attempt, other.number) == (lost.number, 2, 2)
    assert not ledger.complete(lost, outcome())
    assert ledger.complete(kept, outcome())
    assert shard(ledger, "job_1", 0).lost == 1


def check_whose_turn_it_is(bench: Bench) -> None:
    """Shards of one job at a time, by priority; of the next one when the first has none to claim."""
    ledger = bench.ledger
    for job_id, run in (
        ("job_low", RunSettings(Priority.LOW)),
        ("job_normal", RunSettings()),
        ("job_soon", RunSettings(deadline_us=5)),
        ("job_critical", RunSettings(Priority.CRITICAL)),
    ):
        start(ledger, 1, new_job(job_id, run=run))
        bench.pass_time(SECOND_US)
    turns = [ledger.claim(ANN, 5, LEASE_US) for _ in range(5)]
    assert [[claim.job_id for claim in claims] for claims in turns] == [
        ["job_critical"],
        ["job_soon"],
        ["job_normal"],
        ["job_low"],
        [],
    ]


def check_a_named_job(bench: Bench) -> None:
    """Nothing of another one is given, whoever's turn it is."""
    ledger = bench.ledger
    start(ledger, 1, new_job("job_a", run=RunSettings(Priority.CRITICAL)))
    start(ledger, 1, new_job("job_b", run=RunSettings(Priority.LOW)))
    assert take(ledger, job_id="job_b").job_id == "job_b"
    assert ledger.claim(ANN, 1, LEASE_US, "job_b") == []
    assert take(ledger).job_id == "job_a"


def check_giving_back(bench: Bench) -> None:
    """As if it had not been claimed, but the number of the attempt is used up."""
    ledger = bench.ledger
    job_id = start(ledger)
    claim = take(ledger)
    assert ledger.release(claim)
    assert not ledger.release(claim)
    assert not ledger.complete(claim, outcome())
    free = shard(ledger, job_id, 0)
    assert (free.state, free.owner, free.lost, free.failures) == ("ready", None, 0, 0)
    again = take(ledger, BOB)
    assert (again.number, again.attempt, again.careful) == (0, 2, False)
    assert not ledger.complete(claim, outcome())
