"""What was measured, kept in benchmarks/results.json: a new measurement of a row takes the place of its last."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec

from benchmarks.bench import ROOT, Machine, this_machine
from benchmarks.statistics import Ratio

RESULTS_FILE = ROOT / "benchmarks" / "results.json"


class Side(msgspec.Struct, frozen=True):
    """One server at one level of load: medians over its runs."""

    requests_s: float
    p50_ms: float
    p99_ms: float


class Rival(msgspec.Struct, frozen=True):
    """A peer, and ours against it."""

    name: str
    side: Side
    ratio: Ratio


class Comparison(msgspec.Struct, frozen=True):
    """A server beside its peers, with the control (ours against ours) and the constant route of the same run."""

    request: str
    connections: int
    ours: Side
    peers: tuple[Rival, ...]
    constant: Side
    control: Ratio


class Tail(msgspec.Struct, frozen=True):
    """Latencies of one group of requests of an open loop, ms from the intended send time; drawn, not judged."""

    what: str
    requests: int  # answered
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float


class Bar(msgspec.Struct, frozen=True):
    """A figure with the limit that it has to keep; `beside`: what stands beside it, such as its control."""

    what: str
    figure: str
    limit: str
    met: bool
    beside: str = ""


class Result(msgspec.Struct, frozen=True):
    """One row of the benchmark."""

    row: str
    measured: str  # UTC
    machine: Machine
    comparison: Comparison | None = None
    facts: tuple[tuple[str, str], ...] = ()  # what, figure: shown, no bar
    bars: tuple[Bar, ...] = ()
    tails: tuple[Tail, ...] = ()


def result(
    row: str,
    comparison: Comparison | None = None,
    facts: tuple[tuple[str, str], ...] = (),
    bars: tuple[Bar, ...] = (),
    tails: tuple[Tail, ...] = (),
) -> Result:
    """A row measured now on this machine."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    return Result(row, now, this_machine(), comparison, facts, bars, tails)


def at_least(what: str, ratio: Ratio, limit: float, aim: str = "", beside: str = "") -> Bar:
    """A bar that is met when the median reaches it."""
    wanted = f">= {limit:g}x" + (f", aim {aim}" if aim else "")
    return Bar(what, f"{ratio}x", wanted, ratio.median >= limit, beside)


def at_most(what: str, ratio: Ratio, limit: float, aim: str = "", beside: str = "") -> Bar:
    """A bar that is met when the median stays under it."""
    wanted = f"<= {limit:g}x" + (f", aim {aim}" if aim else "")
    return Bar(what, f"{ratio}x", wanted, ratio.median <= limit, beside)


def read_results() -> dict[str, Result]:
    """All rows measured so far, by name."""
    if not RESULTS_FILE.exists():
        return {}
    return {r.row: r for r in msgspec.json.decode(RESULTS_FILE.read_bytes(), type=list[Result])}


def keep(new: Result) -> None:
    """Write a row in place of its last figures."""
    results = {**read_results(), new.row: new}
    encoded = msgspec.json.encode([results[name] for name in sorted(results)])
    RESULTS_FILE.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
