"""The search finds where a server breaks, whatever it is, in few runs, and is not fooled by one bad run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.cli.capacity_search import FALLS_MAX, PRECISION, CapacitySearch


def search_all(search: CapacitySearch, keeps: Callable[[float], bool]) -> list[float]:
    """Run the search to its end; the rates that it tried."""
    tried = []
    while (rate := search.next_rate()) is not None:
        tried.append(rate)
        search.saw(kept=keeps(rate))
        assert len(tried) < 100, "the search does not end"
    return tried


@given(st.floats(1, 50_000), st.floats(1, 1000))
def test_the_capacity_is_found_within_the_precision(capacity: float, first: float) -> None:
    search = CapacitySearch(first)
    search_all(search, lambda rate: rate <= capacity)
    if search.kept_s:
        assert search.broken_s is not None
        assert search.kept_s <= capacity < search.broken_s <= search.kept_s * PRECISION
    else:
        assert capacity < first


def test_doubling_then_halving() -> None:
    search = CapacitySearch(100, precision=1.2)
    assert search_all(search, lambda rate: rate < 500) == pytest.approx(
        [100, 200, 400, 800, 800, 565.7, 565.7, 475.7], abs=0.1
    )
    assert search.kept_s == pytest.approx(475.7, abs=0.1)


def test_one_bad_run_does_not_count() -> None:
    search = CapacitySearch(100, rate_max_s=200)
    outcomes = iter([False, True, True])
    assert search_all(search, lambda rate: next(outcomes)) == [100, 100, 200]
    assert (search.kept_s, search.broken_s) == (200, None)


def test_the_highest_rate_is_a_bound() -> None:
    search = CapacitySearch(300, rate_max_s=1000)
    assert search_all(search, lambda rate: True) == [300, 600, 1000]
    assert CapacitySearch(300, rate_max_s=100).next_rate() == 100


def test_a_server_that_keeps_no_rate_ends_the_search() -> None:
    search = CapacitySearch(256)
    tried = search_all(search, lambda rate: False)
    assert tried[::2] == [256 / 4**fall for fall in range(FALLS_MAX + 1)]
    assert search.kept_s == 0
