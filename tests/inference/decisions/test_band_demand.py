"""What the bands bring, and how much of it is kept free."""

from __future__ import annotations

from math import sqrt

import pytest

from inference.decisions.band_demand import BANDS, BandDemand
from inference.request import Priority

ROW_S = 0.001


def second(demand: BandDemand, now: float, rows: dict[Priority, int], size: int = 1) -> float:
    """One second in which each band brings so many rows, evenly, in requests of `size`."""
    for step in range(1, 21):
        for band, count in rows.items():
            for _ in range(count // size // 20):
                demand.taken(band, size)
        demand.settle(now + step / 20, ROW_S)
    return now + 1.0


def test_nothing_is_kept_free_before_anybody_came():
    demand = BandDemand()
    assert demand.settle(0.0, ROW_S) == [(0.0, 0.0)] * BANDS


def test_each_band_keeps_the_work_of_the_bands_above_free():
    demand = BandDemand()
    demand.settle(0.0, ROW_S)
    second(demand, 0.0, {Priority.CRITICAL: 100, Priority.HIGH: 200, Priority.NORMAL: 400})
    demand.strengths[:] = [1.0] * BANDS
    keep = demand.settle(1.0, ROW_S)
    assert keep[Priority.CRITICAL] == (0.0, 0.0)
    assert keep[Priority.HIGH][0] == pytest.approx(100 * ROW_S, rel=0.2)
    assert keep[Priority.NORMAL][0] == pytest.approx(300 * ROW_S, rel=0.2)
    assert keep[Priority.LOW][0] == pytest.approx(700 * ROW_S, rel=0.2)
    assert sqrt(keep[Priority.HIGH][1]) == pytest.approx(2 * sqrt(100) * ROW_S, rel=0.1), "two standard deviations"


def test_large_requests_come_more_unevenly():
    singles, eights = BandDemand(), BandDemand()
    for demand, size in ((singles, 1), (eights, 8)):
        demand.settle(0.0, ROW_S)
        second(demand, 0.0, {Priority.CRITICAL: 800}, size)
    assert eights.keep[Priority.HIGH][0] == pytest.approx(singles.keep[Priority.HIGH][0], rel=0.05)
    assert eights.keep[Priority.HIGH][1] == pytest.approx(8 * singles.keep[Priority.HIGH][1], rel=0.05)


def test_the_rates_are_right_within_a_second_and_forgotten_within_seconds():
    demand = BandDemand()
    demand.settle(0.0, ROW_S)
    for step in range(1, 21):
        for _ in range(5):
            demand.taken(Priority.NORMAL, 1)
            demand.turned_away(1)
        demand.settle(step / 20, ROW_S)
        assert demand.asked_rate < 210, "a first handful is no overload"
    assert demand.asked_rate == pytest.approx(200, rel=0.2)
    now = 1.0
    for _ in range(5):
        now = second(demand, now, {})
    assert demand.asked_rate < 5


def test_a_band_that_is_kept_out_is_provided_for_and_one_that_is_not_costs_less_and_less():
    demand = BandDemand()
    demand.settle(0.0, ROW_S)
    now = 0.0
    for _ in range(20):
        now = second(demand, now, {Priority.HIGH: 20})
    assert demand.strengths[Priority.HIGH] < 0.2
    weak = demand.settle(now, ROW_S)[Priority.NORMAL][0]
    for _ in range(20):
        demand.kept_out(Priority.HIGH, 1)
    assert demand.strengths[Priority.HIGH] == 1.0
    assert demand.settle(now, ROW_S)[Priority.NORMAL][0] > 4 * weak
