"""How much work each band brings, and what must be kept free for the bands above. Pure.

Who is accepted into a low band waits while requests of higher bands come, so part of its time belongs to them: the rows
that they bring in that time, as measured, and a multiple of the spread of that number (of random arrivals, where the
variance is the mean times the rows of a request). Without that part, those who come later and matter more would be
refused, since they would make the others late.

How strongly a band is provided for is learned: a request that lower bands keep out raises its band's strength by a
quarter, and time lowers it, by a tenth a second. So it settles where lower bands keep out about one request in two
seconds, and no more capacity is left unused for it than that takes.
"""

from __future__ import annotations

from math import exp

from inference.request import LIVE_PRIORITIES, Priority

Keep = list[tuple[float, float]]  # by band: seconds of work that the bands above bring in a second, and its variance
BANDS = max(LIVE_PRIORITIES) + 1  # a list over the bands is indexed by the priority; 0 is never used
MEMORY_S = 1.0  # arrivals of longer ago hardly count
QUIET_BEFORE_S = 0.2  # is assumed before the first arrival, so that a first handful is no overload
FOLD_EVERY_S = 0.05
SPREADS = {Priority.CRITICAL: 2.0, Priority.HIGH: 2.0}  # standard deviations that are kept free for these bands
SPREADS_OTHERS = 0.5
STRENGTH_FIRST = 0.5
STRENGTH_MIN = 0.02
STRENGTH_RAISE = 1.25
STRENGTH_MEMORY_S = 10.0


class BandDemand:
    """Rows a second that each band brings, whether they were taken or kept out by the bands below."""

    __slots__ = (
        "_began_s",
        "_folded_s",
        "_rates",
        "_rows",
        "_spreads",
        "_squares",
        "_turned_away",
        "_variances",
        "asked_rate",
        "keep",
        "strengths",
    )

    def __init__(self) -> None:
        self.strengths = [STRENGTH_FIRST] * BANDS
        self.asked_rate = 0.0  # rows a second that callers asked for in all, taken or not
        self._rows = [0] * BANDS  # since the last fold
        self._squares = [0] * BANDS
        self._turned_away = 0
        self._rates = [0.0] * BANDS  # rows a second
        self._variances = [0.0] * BANDS  # of the rows that come in a second
        self._spreads = [0.0, *(SPREADS.get(band, SPREADS_OTHERS) for band in LIVE_PRIORITIES)]
        self.keep: Keep = [(0.0, 0.0)] * BANDS
        self._began_s = self._folded_s = -1.0

    def taken(self, band: int, rows: int) -> None:
        """A request of `rows` was accepted."""
        self._rows[band] += rows
        self._squares[band] += rows * rows

    def kept_out(self, band: int, rows: int) -> None:
        """A request of `rows` was refused that its band has the capacity for, since lower bands hold it."""
        self._rows[band] += rows
        self._squares[band] += rows * rows
        self.strengths[band] = min(1.0, max(STRENGTH_MIN, self.strengths[band]) * STRENGTH_RAISE)

    def turned_away(self, rows: int) -> None:
        """A request of `rows` was refused that its own band has no capacity for."""
        self._turned_away += rows

    def settle(self, now: float, row_s: float) -> Keep:
        """Work what has happened into what is kept free, a row being `row_s` of work."""
        if self._folded_s < 0.0:
            self._began_s = self._folded_s = now
        if now - self._folded_s >= FOLD_EVERY_S:
            self._fold(now, now - self._folded_s)
        rate_s = variance = 0.0
        for band in range(1, BANDS):
            self.keep[band] = rate_s, variance
            strength_s = self.strengths[band] * row_s
            rate_s += strength_s * self._rates[band]
            variance += (strength_s * self._spreads[band]) ** 2 * self._variances[band]
        return self.keep

    def _fold(self, now: float, passed_s: float) -> None:
        fade = exp(-passed_s / STRENGTH_MEMORY_S)
        share = max(1.0 - exp(-passed_s / MEMORY_S), passed_s / (now - self._began_s + QUIET_BEFORE_S))
        asked = (sum(self._rows) + self._turned_away) / passed_s
        self.asked_rate += share * (asked - self.asked_rate)
        for band in range(1, BANDS):
            self._rates[band] += share * (self._rows[band] / passed_s - self._rates[band])
            self._variances[band] += share * (self._squares[band] / passed_s - self._variances[band])
            self._rows[band] = self._squares[band] = 0
            self.strengths[band] *= fade
        self._turned_away = 0
        self._folded_s = now
