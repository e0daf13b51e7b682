"""Overload in figures: callers of four bands with deadlines, more of them than the server can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.open_loop import Floats, Mask, OpenRun

BANDS: tuple[tuple[str, float], ...] = (("critical", 0.05), ("high", 0.15), ("normal", 0.60), ("low", 0.20))
DEADLINE_FACTORS = (10.0, 50.0)  # of the unloaded p50
DEADLINE_MS_MIN = 20.0
DEADLINES = 16  # values that stand for the uniform distribution
REFUSED = (429, 503)


@dataclass(frozen=True)
class Variant:
    """A kind of caller: band, deadline, and its share of the requests."""

    band: str
    timeout_ms: float
    share: float


@dataclass(frozen=True)
class Overload:
    """What the callers got.

    Accepted: not refused at once. In time: answered within the deadline, counted from the intended send time. The p99
    of a band is that of its accepted requests, and one that was given up never came.
    """

    requests: int
    accepted: int
    in_time: int
    in_time_from_send: int
    late_status: int  # accepted, and given up by the server when the deadline passed
    failed: int  # neither answered, refused nor given up
    goodput_s: float
    refused_p99_ms: float
    critical_p99_ms: float
    p99_ms: dict[str, float]
    accepted_share: dict[str, float]

    @property
    def in_time_share(self) -> float:
        """Of the accepted."""
        return self.in_time / self.accepted if self.accepted else 0.0


def variants(unloaded_p50_ms: float) -> list[Variant]:
    """Every band with deadlines spread evenly from 10 to 50 times the unloaded p50, and never below 20 ms."""
    low, high = DEADLINE_FACTORS
    factors = [low + (high - low) * (place + 0.5) / DEADLINES for place in range(DEADLINES)]
    return [
        Variant(band, max(DEADLINE_MS_MIN, round(factor * unloaded_p50_ms, 1)), share / DEADLINES)
        for band, share in BANDS
        for factor in factors
    ]


def judge(run: OpenRun, kinds: Sequence[Variant]) -> Overload:
    """The figures of a run whose `choice` is the kind of caller."""
    limit_s: Floats = np.array([kind.timeout_ms / 1000 for kind in kinds])[run.choice]
    band: NDArray[np.str_] = np.array([kind.band for kind in kinds])[run.choice]
    refused: Mask = np.isin(run.status, REFUSED)
    accepted: Mask = ~refused
    given_up: Mask = run.status == 504
    in_time: Mask = run.good & (run.latency_s <= limit_s)
    refusals_ms = np.sort(run.latency_s[refused] * 1000)
    p99 = {name: run.quantile_ms(0.99, accepted & (band == name)) for name, _ in BANDS}
    return Overload(
        requests=len(run.status),
        accepted=int(accepted.sum()),
        in_time=int(in_time.sum()),
        in_time_from_send=int((run.good & (run.done_s - run.sent_s <= limit_s)).sum()),
        late_status=int(given_up.sum()),
        failed=int((accepted & ~run.good & ~given_up).sum()),
        goodput_s=float(in_time.sum() / run.seconds),
        refused_p99_ms=float(np.percentile(refusals_ms, 99)) if len(refusals_ms) else 0.0,
        critical_p99_ms=p99["critical"],
        p99_ms=p99,
        accepted_share={name: share_of(accepted, band == name) for name, _ in BANDS},
    )


def share_of(chosen: Mask, among: Mask) -> float:
    """How many of `among` are chosen."""
    return float((chosen & among).sum() / max(int(among.sum()), 1))


def memory_growth_mb(samples: Sequence[tuple[float, float]], window_s: float = 60.0) -> float:
    """Mean of the last minute less mean of the first; samples are (s, MB). Of a shorter run its two thirds apart."""
    times = [time for time, _ in samples]
    window_s = min(window_s, (times[-1] - times[0]) / 3)
    first = [mb for time, mb in samples if time <= times[0] + window_s]
    last = [mb for time, mb in samples if time >= times[-1] - window_s]
    return sum(last) / len(last) - sum(first) / len(first)
