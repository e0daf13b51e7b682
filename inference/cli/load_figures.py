"""What an open loop has seen: latencies from the intended send times, refusals, and whether the loop itself kept up."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import ceil, inf
from statistics import median

LATE_S = 0.005  # a request that the generator came to later than this was held up by it ...
LATE_SHARE_MAX = 0.01  # ... which voids the run if it happened to more than 1 % of them: it would show in the p99
END_SHARE = 0.01  # and if most of the last 1 % were late, the generator was falling back
GOAL_SHARE = 0.99
REFUSED = frozenset({429, 503})
LOST = 0  # status of a request that got no answer


@dataclass(frozen=True)
class LoadRun:
    """Request by request, s from the start, inf for what never came: when it was due, when the generator came to it,
    when it was sent (later, if every connection had one in flight), when its answer was there; and its status.
    """

    due_s: array[float]
    seen_s: array[float]
    sent_s: array[float]
    done_s: array[float]
    status: array[int]

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
    crowded: str  # whether connections ran out, or ""


def percentile(ascending: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank); inf of nothing."""
    return ascending[max(ceil(share * len(ascending)) - 1, 0)] if ascending else inf


def figures(run: LoadRun, seconds: float, late_s: float = LATE_S) -> LoadFigures:
    """The figures of a run that was scheduled for `seconds`; `late_s`: see `lag`."""
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
        lag=lag(run, late_s),
        crowded=crowded(run),
    )


def keeps(run: LoadRun, goal_s: float) -> bool:
    """Whether 99 % of all requests were answered within the goal; a refused or failed one never was."""
    latencies = run.latencies()
    return percentile([*latencies, *[inf] * (len(run.due_s) - len(latencies))], GOAL_SHARE) <= goal_s


def lag(run: LoadRun, late_s: float = LATE_S) -> str:
    """Why the run says nothing about the server: the generator came too late to its requests. Empty if it kept up.

    `late_s`: what counts as late; small beside the latencies that matter. A wait for a free connection is none of the
    generator's: see `crowded`.
    """
    late = [seen - due for due, seen in zip(run.due_s, run.seen_s, strict=True)]
    if not late:
        return ""
    behind = sum(1 for seconds in late if seconds > late_s)
    last = late[-ceil(END_SHARE * len(late)) :]
    if behind > LATE_SHARE_MAX * len(late):
        return f"the generator came more than {late_s * 1000:g} ms late to {behind / len(late):.1%} of its requests"
    if median(last) > late_s:
        return f"the generator came {median(last) * 1000:.0f} ms late to the last requests"
    return ""


def crowded(run: LoadRun) -> str:
    """Whether so many requests waited for a free connection that the server saw fewer callers than were meant."""
    waited = sum(1 for seen, sent in zip(run.seen_s, run.sent_s, strict=True) if sent - seen > LATE_S or sent == inf)
    if waited <= LATE_SHARE_MAX * len(run.due_s):
        return ""
    return f"{waited / len(run.due_s):.1%} of the requests waited for a free connection"
