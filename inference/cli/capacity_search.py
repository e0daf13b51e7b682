"""The highest rate that keeps a goal, found with few runs: double until it breaks, then halve the gap. Pure."""

from __future__ import annotations

from math import sqrt

PRECISION = 1.1  # the search ends when the lowest broken rate is at most 10 % above the highest kept one
FALL = 4.0  # a first rate that breaks is divided by this
FALLS_MAX = 4


class CapacitySearch:
    """Asks for runs: `while (rate := search.next_rate()) is not None: search.saw(kept)`.

    One broken run may be the machine's, so a rate counts as broken when it breaks twice.
    """

    def __init__(self, first_rate_s: float, rate_max_s: float = float("inf"), precision: float = PRECISION) -> None:
        self.kept_s = 0.0  # the highest rate that kept the goal; 0 while none has
        self.broken_s: float | None = None  # the lowest that broke it
        self._rate_s: float | None = min(first_rate_s, rate_max_s)
        self._rate_max_s = rate_max_s
        self._precision = precision
        self._broke_once = False
        self._falls = 0

    def next_rate(self) -> float | None:
        """The rate to try next, or None when the search is over."""
        return self._rate_s

    def saw(self, *, kept: bool) -> None:
        """Take the outcome of a run at `next_rate()`."""
        rate_s = self._rate_s
        assert rate_s is not None, "the search is over"
        if not kept and not self._broke_once:
            self._broke_once = True
            return
        self._broke_once = False
        if kept:
            self.kept_s = rate_s
        else:
            self.broken_s = rate_s
        self._rate_s = self._choose(rate_s)

    def _choose(self, rate_s: float) -> float | None:
        if self.broken_s is None:
            return min(rate_s * 2, self._rate_max_s) if rate_s < self._rate_max_s else None
        if not self.kept_s:
            self._falls += 1
            return rate_s / FALL if self._falls <= FALLS_MAX else None
        return sqrt(self.kept_s * self.broken_s) if self.broken_s / self.kept_s > self._precision else None
