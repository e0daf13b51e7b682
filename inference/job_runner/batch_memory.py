"""How large a batch may be for the memory that a worker has.

What a row of a batch costs is not known before it runs. It is seen at the process's peak: between two sizes the peak
grows by what the larger one needs more, or by what others in the process do, which makes it a bound from above. A size
is tried if that growth, in proportion to the rows, stays within the budget; sizes at most double, so the step is small.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_bytes() -> int:
    """The most memory that this process has had resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT_BYTES


class BatchMemory:
    """`budget_bytes`: the most that the process may have resident. `peak`: how that is seen."""

    def __init__(self, budget_bytes: int, peak: Callable[[], int] = peak_bytes) -> None:
        self._budget_bytes = budget_bytes
        self._peak = peak
        self._before_bytes: int | None = None  # before the first batch
        self._rows_most = 0
        self._growth_bytes = 0

    def allows(self, rows: int) -> bool:
        """Whether a batch of `rows` is expected to stay within the budget. One row is always tried."""
        if self._before_bytes is None:
            self._before_bytes = self._peak()
        if rows <= max(1, self._rows_most):
            return True
        needed_bytes = self._growth_bytes * rows / max(1, self._rows_most)
        return self._before_bytes + needed_bytes <= self._budget_bytes

    def ran(self, rows: int) -> None:
        """A batch of `rows` was run."""
        if rows <= self._rows_most or self._before_bytes is None:
            return  # looked at only when a size is new: a look costs 1 us
        self._rows_most = rows
        self._growth_bytes = self._peak() - self._before_bytes
