"""Arrival times: the right number of them, in order, the same for the same seed."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.cli.load_schedule import BURST_FACTOR, BURST_SHARE, PATTERNS, QUIET_FACTOR, arrivals


@given(st.sampled_from(PATTERNS), st.floats(1, 2000), st.floats(0.1, 3), st.integers(0, 1000))
def test_times_ascend_within_the_run(pattern: str, rate: float, seconds: float, seed: int) -> None:
    times = arrivals(pattern, rate, seconds, Random(seed))
    assert list(times) == sorted(times)
    assert all(0 <= time < seconds for time in times)


@given(st.sampled_from(PATTERNS), st.integers(0, 100))
def test_a_seed_repeats_its_times(pattern: str, seed: int) -> None:
    assert arrivals(pattern, 100, 2, Random(seed)) == arrivals(pattern, 100, 2, Random(seed))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_mean_rate_is_the_one_asked_for(pattern: str) -> None:
    wanted = 1000 * 20
    assert abs(len(arrivals(pattern, 1000, 20, Random(1))) - wanted) < 5 * sqrt(wanted)


def test_gaps_of_a_poisson_process_vary_as_much_as_their_mean() -> None:
    times = arrivals("poisson", 1000, 20, Random(2))
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.05)


def test_bursts_come_at_three_times_the_rate_and_the_rest_at_half() -> None:
    times = arrivals("bursts", 1000, 50, Random(3))
    in_bursts = sum(1 for time in times if time % 1.0 < BURST_SHARE)
    assert in_bursts / (50 * BURST_SHARE) == pytest.approx(1000 * BURST_FACTOR, rel=0.05)
    assert (len(times) - in_bursts) / (50 * (1 - BURST_SHARE)) == pytest.approx(1000 * QUIET_FACTOR, rel=0.05)


def test_an_unknown_pattern_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"'steps', accepted poisson or bursts"):
        arrivals("steps", 1, 1, Random(0))
