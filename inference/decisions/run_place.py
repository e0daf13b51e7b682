"""Where a batch runs: in a runner's thread, or at once in the thread of the loop. Pure; `now` in seconds.

A thread of its own keeps the loop free while a model works, at the price of two hand-overs, each of which waits for the
interpreter and for the system's scheduler: some 100 us a batch, more than a small model takes. So a batch runs in the
loop's thread where nobody loses by it:

- its work is bounded by its shapes (no control flow in the graph, on this processor), so it cannot hang;
- it is predicted to take less than anybody feels, by what 98 of 100 runs stay under;
- the loop's rounds are short, and the batch is not full, so that nobody is left behind unread: in an overload, where
  refusing alone would fill the core, a thread gets its share of it from the system;
- there is nothing that could go on beside it: one core for both, or nobody else waits.

A run that takes far longer than that for once (the machine stood still, pages came from a disk) is a reason to doubt
the prediction, and for a while threads have the work.
"""

from __future__ import annotations

HERE_MAX_S = 0.002
STALL_S = 0.010  # of a run that was predicted to take HERE_MAX_S at most
DOUBT_S = 10.0


class RunPlace:
    """The choice for all versions of one loop. `cores`: those that loop and runners share."""

    __slots__ = ("_alone_only", "_doubted_until_s", "rounds_short")

    def __init__(self, cores: int) -> None:
        self._alone_only = cores > 1
        self._doubted_until_s = float("-inf")
        self.rounds_short = True

    def here(self, upper_s: float | None, now: float, *, full: bool, alone: bool) -> bool:
        """Whether a batch of bounded work runs in the loop's thread.

        `upper_s`: what it is predicted to stay under, None while nothing is known; `full`: it holds as many rows as a
        batch may; `alone`: nobody else waits.
        """
        return (
            upper_s is not None
            and upper_s <= HERE_MAX_S
            and not full
            and self.rounds_short
            and (alone or not self._alone_only)
            and now >= self._doubted_until_s
        )

    def ran(self, run_s: float, now: float) -> None:
        """A batch took so long in the loop's thread."""
        if run_s > STALL_S:
            self._doubted_until_s = now + DOUBT_S
