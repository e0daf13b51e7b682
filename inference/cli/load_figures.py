"""What an open loop has seen: latencies from the intended send times, refusals, and whether the loop itself kept up."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import ceil, inf
from statistics import median

LATE_S = 0.005  # a request sent later than this behind its time was held up by the generator ...
LATE_SHARE_MAX = 0.01  # ... which voids the run if it happened to more than 1 % of them: it would show in the p99
END_SHARE = 0.01  # and if most of the last 1 % were late, the generator was falling back
GOAL_SHARE = 0.99
REFUSED = frozenset({429, 503})
LOST = 0  # status of a request that got no answer


@dataclass(frozen=True)
class LoadRun:
    """Request by request: when it was due, when it was sent, when its answer was there (s from the start), its status.

    `starved`: requests that waited because every connection still had one in flight.
    """

    due_s: array[float]
    sent_s: array[float]
    done_s: array[float]
    status: array[int]
    starved: int

    def latencies(self) -> list[float]:
        """Seconds from the intended send time to the answer, of the requests with status 200; ascending."""
        return sorted(
            done - due for due, done, status in zip(self.due_s, self.done_s, self.status, strict=True) if status == 200
        )

    def service_times(self) -> list[float]:
        """Seconds from the real send time to the answer, of the requests with status 200; ascending."""
        return sorted(
            done - sent
            for sent, done, status in zip(self.sent_s, self.done_s, self.status, strict=True)
            if status == 200
        )


@dataclass(frozen=True)
class LoadFigures:
    """One run in figures. Latencies are those of answered requests, in milliseconds; inf if there are none."""

    requests: int
    rate_s: float
    answered: int
    refused: int
    failed: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    lag: str  # why the run is void, or ""


def percentile(ascending: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank); inf of nothing."""
    return ascending[max(ceil(share * len(ascending)) - 1, 0)] if ascending else inf


def figures(run: LoadRun, seconds: float) -> LoadFigures:
    """The figures of a run that was scheduled for `seconds`."""
    latencies = run.latencies()
    refused = sum(1 for status in run.status if status in REFUSED)
    return LoadFigures(
        requests=len(run.due_s),
        rate_s=len(run.due_s) / seconds,
        answered=len(latencies),
        refused=refused,
        failed=len(run.due_s) - len(latencies) - refused,
        p50_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        p999_ms=percentile(latencies, 0.999) * 1000,
        lag=lag(run),
    )


def keeps(run: LoadRun, goal_s: float) -> bool:
    """Whether 99 % of all requests were answered within the goal; a refused or failed one never was."""
    latencies = run.latencies()
    return percentile([*latencies, *[inf] * (len(run.due_s) - len(latencies))], GOAL_SHARE) <= goal_s


def lag(run: LoadRun) -> str:
    """Why the run says nothing about the server: the generator sent too late. Empty if it kept up."""
    late = [sent - due for due, sent in zip(run.due_s, run.sent_s, strict=True)]
    if not late:
        return ""
    if unsent := sum(1 for seconds in late if seconds == inf):
        return f"{unsent} requests were never sent; {run.starved} waited for a free connection"
    behind = sum(1 for seconds in late if seconds > LATE_S)
    last = late[-ceil(END_SHARE * len(late)) :]
    cause = f"; {run.starved} waited for a free connection" if run.starved else ""
    if behind > LATE_SHARE_MAX * len(late):
        return f"{behind / len(late):.1%} of the requests were sent more than {LATE_S * 1000:g} ms late{cause}"
    if median(last) > LATE_S:
        return f"the last requests were sent {median(last) * 1000:.0f} ms late{cause}"
    return ""
