"""What a batch takes is learned from runs: the line, its spread, and what cannot be true."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.cost_model import CostModel


def line(rows: int) -> float:
    return 0.002 * rows + 0.005


def test_knows_nothing_before_the_first_run():
    cost = CostModel()
    assert not cost.known
    assert (cost.predict(8), cost.upper(8), cost.rate(8)) == (0.0, 0.0, 0.0)


def test_learns_the_line_from_noisy_runs_of_many_sizes():
    cost, random = CostModel(), Random(1)
    for _ in range(500):
        rows = random.randint(1, 32)
        cost.observe(rows, line(rows) * random.lognormvariate(0.0, 0.1))
    for rows in (1, 8, 32):
        assert cost.predict(rows) == pytest.approx(line(rows), rel=0.15)
    assert cost.rate(32) == pytest.approx(32 / line(32), rel=0.1)


def test_full_batches_alone_do_not_make_it_forget_what_one_row_costs():
    cost = CostModel()
    for _ in range(100):
        cost.observe(1, line(1))
        cost.observe(32, line(32))
    for _ in range(10_000):
        cost.observe(32, line(32) * 1.01)
    assert cost.predict(1) == pytest.approx(line(1), rel=0.1)
    assert cost.predict(32) == pytest.approx(line(32) * 1.01, rel=1e-3)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_model_that_changed_is_known_after_some_sixty_runs(factor):
    cost = CostModel()
    for _ in range(200):
        cost.observe(8, line(8))
    for _ in range(60):
        cost.observe(8, line(8) * factor)
    assert cost.predict(8) == pytest.approx(line(8) * factor, rel=0.15)


def test_one_stall_hardly_moves_it():
    cost, random = CostModel(), Random(2)
    for _ in range(300):
        cost.observe(8, line(8) * random.lognormvariate(0.0, 0.05))
    before = cost.predict(8)
    cost.observe(8, 100 * line(8))
    assert cost.predict(8) == pytest.approx(before, rel=0.03)


def test_a_first_run_that_warms_up_is_forgotten_at_once():
    cost = CostModel()
    cost.observe(1, 50 * line(1))
    cost.observe(1, line(1))
    assert cost.predict(1) == pytest.approx(line(1))


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
def test_nearly_all_runs_stay_under_the_upper_estimate(noise):
    cost, random = CostModel(), Random(3)
    for _ in range(500):
        cost.observe(8, line(8) * random.lognormvariate(0.0, noise))
    over = 0
    for _ in range(2000):
        run_s = line(8) * random.lognormvariate(0.0, noise)
        over += run_s > cost.upper(8)
        cost.observe(8, run_s)
    assert 0.005 * 2000 < over < 0.04 * 2000


def test_the_probe_says_it_before_the_first_run_and_nothing_afterwards():
    cost = CostModel()
    cost.seed({1: line(1), 8: line(8)})
    assert cost.predict(1) == pytest.approx(line(1), rel=0.01)
    assert cost.predict(8) == pytest.approx(line(8), rel=0.01)
    assert cost.upper(8) > 1.2 * line(8)
    cost.seed({1: 1.0})
    assert cost.predict(1) == pytest.approx(line(1), rel=0.01)


def test_a_probe_without_timings_leaves_it_unknown():
    cost = CostModel()
    cost.seed({})
    assert not cost.known


@pytest.mark.parametrize(
    ("rows", "run_s"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan")), (1, float("inf"))]
)
def test_what_cannot_be_true_is_not_learned(rows, run_s):
    cost = CostModel()
    cost.observe(rows, run_s)
    assert not cost.known
    cost.observe(4, 0.01)
    before = cost.predict(4)
    cost.observe(rows, run_s)
    assert cost.predict(4) == before


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-7, 1e3)), min_size=1, max_size=200))
def test_it_never_promises_less_than_nothing(runs):
    cost = CostModel()
    for rows, run_s in runs:
        cost.observe(rows, run_s)
        assert cost.a_s >= 0.0
        assert cost.b_s >= 0.0
        assert 0.0 <= cost.predict(1) <= cost.predict(4096) <= cost.upper(4096) < 1e9
