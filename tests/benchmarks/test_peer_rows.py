"""The duel with the peers: which is the best, what is a ratio of what, and which bars a level has."""

from __future__ import annotations

import pytest

from benchmarks.load import Load
from benchmarks.peer_rows import Duel, bars_of, weigh

NAMES = ["mosec, 2 ms", "mosec, no batching", "FastAPI"]


def runs(rate: float, p50: float = 1.0, p99: float = 1.5, count: int = 3) -> list[Load]:
    return [Load(1000, rate, p50, p99, 0)] * count


def duel(rates: list[float], p50: list[float] | None = None, tails: tuple[float, float] = (1.5, 3.0)) -> Duel:
    """Ours and the peers at these rates; `tails`: p99 / p50 of ours and of the constant route."""
    medians = p50 or [1.0] * len(rates)
    columns = [runs(rate, ms) for rate, ms in zip(rates, medians, strict=True)]
    columns.append(runs(rates[0]))
    best = max(range(1, len(rates)), key=lambda place: rates[place])
    long = [runs(rates[0], 1.0, tails[0], 1), runs(rates[best], 7.0, 8.0, 1), runs(9e3, 0.5, 0.5 * tails[1], 1)]
    return weigh("q", 64, NAMES, columns, best, long)


def test_each_peer_has_its_own_ratio() -> None:
    seen = duel([3000.0, 1500.0, 1000.0, 300.0]).comparison
    assert {rival.name: rival.ratio.median for rival in seen.peers} == dict(zip(NAMES, (2.0, 3.0, 10.0), strict=True))
    assert seen.control.median == 1.0


def test_the_latency_of_the_best_peer_comes_from_the_long_runs() -> None:
    mosec, other, _ = duel([3000.0, 1500.0, 1000.0, 300.0]).comparison.peers
    assert (mosec.side.p50_ms, other.side.p50_ms) == (7.0, 1.0)


def test_at_64_callers_the_best_setting_of_mosec_counts() -> None:
    rate, tail = bars_of(duel([2000.0, 1500.0, 1600.0, 5000.0]), 64)
    assert "best: mosec, no batching" in rate.what
    assert (rate.figure, rate.met) == ("1.25 [1.25, 1.25]x", False)
    assert tail.met


def test_at_16_callers_the_best_of_all_counts() -> None:
    (bar,) = bars_of(duel([3000.0, 900.0, 800.0, 1000.0]), 16)
    assert "(FastAPI)" in bar.what
    assert (bar.limit, bar.met) == (">= 3x, aim 4.5x", True)


def test_one_caller_has_a_bar_for_its_latency_too() -> None:
    rate, p50 = bars_of(duel([2000.0, 200.0, 1500.0, 1400.0], [0.3, 3.8, 0.7, 0.5]), 1)
    assert (rate.figure, rate.met) == ("1.33 [1.33, 1.33]x", False)
    assert "(FastAPI)" in p50.what
    assert (p50.figure, p50.met) == ("0.60 [0.60, 0.60]x", True)


@pytest.mark.parametrize(("tails", "met"), [((2.0, 1.5), True), ((2.5, 2.4), False), ((2.5, 2.6), True)])
def test_the_tail_is_held_to_two_or_the_constant_route(tails: tuple[float, float], *, met: bool) -> None:
    assert bars_of(duel([2.0, 1.0, 1.0, 1.0], tails=tails), 64)[1].met is met
