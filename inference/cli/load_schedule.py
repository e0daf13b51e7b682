"""When an open loop sends: arrival times computed before the run, so that a slow server cannot slow its callers.

Pure: the same seed gives the same times.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import count
from random import Random

PATTERNS = ("poisson", "bursts")
BURST_PERIOD_S = 1.0
BURST_SHARE = 0.2  # of each period the rate is BURST_FACTOR times the mean
BURST_FACTOR = 3.0
QUIET_FACTOR = (1 - BURST_SHARE * BURST_FACTOR) / (1 - BURST_SHARE)  # what is left for the rest: half the mean


def arrivals(pattern: str, rate_s: float, seconds: float, random: Random) -> array[float]:
    """Times of the requests from 0 to `seconds`, ascending: a Poisson process of `rate_s` requests/s in the mean.

    Pattern "bursts": the first fifth of each second has three times the rate, the rest of it half.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pattern: given {pattern!r}, accepted {' or '.join(PATTERNS)}")
    if pattern == "poisson":
        return array("d", _poisson(0.0, seconds, rate_s, random))
    times = array("d")
    for period in count():
        start_s = period * BURST_PERIOD_S
        if start_s >= seconds:
            return times
        turn_s, end_s = start_s + BURST_SHARE * BURST_PERIOD_S, start_s + BURST_PERIOD_S
        times.extend(_poisson(start_s, min(turn_s, seconds), rate_s * BURST_FACTOR, random))
        times.extend(_poisson(turn_s, min(end_s, seconds), rate_s * QUIET_FACTOR, random))
    return times


def _poisson(start_s: float, end_s: float, rate_s: float, random: Random) -> Iterator[float]:
    """Independent exponential gaps; such a process has no memory, so each phase may begin it anew."""
    now_s = start_s + random.expovariate(rate_s)
    while now_s < end_s:
        yield now_s
        now_s += random.expovariate(rate_s)
