"""Overload in figures: who counts as accepted, as in time, and what the memory did."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from benchmarks.open_loop import OpenRun
from benchmarks.overload import BANDS, Variant, judge, memory_growth_mb, variants

KINDS = [Variant("critical", 20.0, 0.5), Variant("low", 100.0, 0.5)]


def run(*requests: tuple[int, float, int], late_ms: float = 0.0) -> OpenRun:
    """Requests as (kind, latency in ms, status), one each 10 ms, over one second."""
    due = np.arange(len(requests)) * 0.01
    kinds, latencies, statuses = zip(*requests, strict=True)
    return OpenRun(
        due,
        due + late_ms / 1000,
        due + np.array(latencies) / 1000,
        np.array(statuses, np.int16),
        np.array(kinds, np.uint16),
        seconds=1.0,
        lag="",
    )


def test_each_request_is_counted_once() -> None:
    seen = judge(
        run((0, 5, 200), (0, 25, 200), (1, 25, 200), (1, 1, 503), (1, 101, 504), (1, 3, 500), (0, 0, 0)), KINDS
    )
    assert (seen.requests, seen.accepted, seen.in_time, seen.late_status, seen.failed) == (7, 6, 2, 1, 2)
    assert seen.goodput_s == 2
    assert seen.in_time_share == pytest.approx(2 / 6)


def test_the_deadline_counts_from_the_intended_send_time() -> None:
    seen = judge(run((0, 22, 200), late_ms=5), KINDS)
    assert (seen.in_time, seen.in_time_from_send) == (0, 1)


def test_bands_are_told_apart() -> None:
    seen = judge(run((0, 5, 200), (0, 7, 200), (1, 50, 200), (1, 1, 503), (1, 2, 503), (1, 2, 503)), KINDS)
    assert seen.critical_p99_ms == pytest.approx(7)
    assert seen.p99_ms["low"] == pytest.approx(50)
    assert (seen.accepted_share["critical"], seen.accepted_share["low"]) == (1.0, 0.25)
    assert seen.refused_p99_ms == pytest.approx(2, abs=0.1)


def test_what_was_accepted_and_given_up_never_came() -> None:
    seen = judge(run(*[(0, 5, 200)] * 98, *[(0, 30, 504)] * 2), KINDS)
    assert seen.critical_p99_ms == inf
    assert judge(run(*[(0, 5, 200)] * 99, (0, 30, 504)), KINDS).critical_p99_ms == pytest.approx(5)


def test_a_server_that_refuses_everything_has_no_goodput() -> None:
    seen = judge(run((0, 1, 503), (1, 1, 429)), KINDS)
    assert (seen.accepted, seen.in_time_share, seen.goodput_s) == (0, 0.0, 0.0)


def test_bands_and_deadlines_are_those_of_the_row() -> None:
    kinds = variants(unloaded_p50_ms=4.0)
    shares = {band: sum(kind.share for kind in kinds if kind.band == band) for band, _ in BANDS}
    assert shares == pytest.approx({"critical": 0.05, "high": 0.15, "normal": 0.60, "low": 0.20})
    limits = [kind.timeout_ms for kind in kinds]
    assert (min(limits), max(limits)) == pytest.approx((45, 195))
    assert np.mean(limits) == pytest.approx(30 * 4.0)


def test_no_deadline_is_below_20_ms() -> None:
    limits = [kind.timeout_ms for kind in variants(unloaded_p50_ms=0.5)]
    assert min(limits) == 20.0
    assert max(limits) > 20.0


def test_memory_is_compared_between_the_first_and_the_last_minute() -> None:
    samples = [(float(second), 100.0 + (5.0 if second > 100 else 0.0)) for second in range(181)]
    assert memory_growth_mb(samples) == pytest.approx(5.0)
    assert memory_growth_mb([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]) == pytest.approx(2.0)
