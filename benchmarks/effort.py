"""How long the rows take: long enough for the figures to hold, and a few seconds to see that a row works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Pairs of `pair_s` for a ratio, runs of `latency_s` for percentiles, and the lengths of the longer rows."""

    pairs: int = 15
    pair_s: int = 1
    latency_runs: int = 7
    latency_s: int = 5
    warm_up_s: int = 2
    overload_s: int = 130  # two whole minutes to compare the memory of, and some
    overload_limit_s: int = 330
    accepted_min: int = 20_000
    shown_s: int = 30  # an overload without a bar
    bad_client_s: int = 10
    million: int = 1_000_000
    starts: int = 9
    weigh: bool = True


QUICK = Effort(
    pairs=2,
    latency_runs=1,
    latency_s=1,
    warm_up_s=1,
    overload_s=3,
    overload_limit_s=3,
    accepted_min=0,
    shown_s=2,
    bad_client_s=1,
    million=2_000,
    starts=1,
    weigh=False,
)
