"""The ledger in memory keeps the contract."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.ledger.memory_ledger import MemoryLedger
from inference.shard import Claim, Owner
from tests.inference.ledger.ledger_bench import LEASE_US, Bench, new_job, outcome, start
from tests.inference.ledger.ledger_contract import CHECKS


class MemoryBench:
    """A ledger whose time the test makes; its peer is itself."""

    def __init__(self) -> None:
        self.clock_us = 1_700_000_000_000_000
        self.ledger = self.peer = MemoryLedger(lambda: self.clock_us)

    def pass_time(self, us: int) -> None:
        self.clock_us += us


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Bench], None]) -> None:
    check(MemoryBench())


def test_threads_share_out_the_shards() -> None:
    ledger = MemoryLedger()
    start(ledger, 200)

    def work(number: int) -> list[int]:
        owner, mine = Owner("h", "b", number, "1"), []
        while claims := ledger.claim(owner, 3, LEASE_US, "job_1"):
            mine += [claim.number for claim in claims if done_by(claim)]
        return mine

    def done_by(claim: Claim) -> bool:
        return claim.kind == "rows" and ledger.complete(claim, outcome())

    with ThreadPoolExecutor(4) as pool:
        done = [number for mine in pool.map(work, range(4)) for number in mine]
    assert sorted(done) == list(range(200))
    assert ledger.job("job_1").counts.rows_done == 2000


def test_a_closed_ledger_had_nothing_open_and_its_clock_is_the_machines() -> None:
    ledger = MemoryLedger()
    assert ledger.now_us() > 1_700_000_000_000_000
    assert ledger.create(new_job()) is not None
    ledger.close()
