"""What every ledger keeps; each implementation's tests run all of CHECKS, each with a fresh Bench of its own.

@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check, bench):
    check(bench)
"""

from __future__ import annotations

from collections.abc import Callable

from tests.inference.ledger import claim_checks, failure_checks, job_checks, wanted_checks
from tests.inference.ledger.ledger_bench import Bench

CHECKS: tuple[Callable[[Bench], None], ...] = tuple(
    found
    for module in (job_checks, claim_checks, failure_checks, wanted_checks)
    for name, found in vars(module).items()
    if name.startswith("check_")
)
