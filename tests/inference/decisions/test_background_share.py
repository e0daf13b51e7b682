"""How large a background batch is, and when one may go before live rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.background_share import MEMORY_S, BackgroundShare, rows_of_a_batch
from inference.decisions.cost_model import CostModel


def cost(batch_s: float, row_s: float) -> CostModel:
    made = CostModel()
    made.observe(1, batch_s + row_s)
    made.a_s, made.b_s = row_s, batch_s
    return made


# ---- the cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "rows_max", "rows"),
    [
        (3, 64, 3),  # all of it takes less
        (4, 64, 4),  # 0.001 + 4 * 0.001: exactly as long as it may
        (5, 64, 3),  # 3 and 2, not 4 and 1
        (512, 64, 4),
        (100, 2, 2),  # a full batch of live rows has no more
    ],
)
def test_a_batch_has_as_many_rows_as_the_time_allows_spread_evenly(waiting: int, rows_max: int, rows: int) -> None:
    assert rows_of_a_batch(cost(0.001, 0.001), waiting, rows_max, 0.005) == rows


def test_a_row_that_takes_longer_than_a_batch_may_runs_alone() -> None:
    assert rows_of_a_batch(cost(0.0, 0.016), 100, 8, 0.005) == 1
    assert rows_of_a_batch(cost(0.016, 0.0), 100, 8, 0.005) == 1


def test_while_nothing_is_known_of_the_cost_rows_run_one_by_one() -> None:
    assert rows_of_a_batch(CostModel(), 100, 64, 0.005) == 1


@given(st.floats(0, 0.01), st.floats(1e-7, 0.01), st.integers(1, 10_000), st.integers(1, 1024), st.floats(0.0005, 0.05))
def test_no_batch_takes_longer_and_no_fewer_batches_would_do(
    batch_s: float, row_s: float, waiting: int, rows_max: int, batch_s_max: float
) -> None:
    model = cost(batch_s, row_s)
    batches, left = 0, waiting
    while left:
        rows = rows_of_a_batch(model, left, rows_max, batch_s_max)
        assert 1 <= rows <= min(left, rows_max)
        assert rows == 1 or model.predict(rows) <= batch_s_max * (1 + 1e-9)
        batches, left = batches + 1, left - rows
    most = max(1, min(rows_max, int((batch_s_max - batch_s) / row_s)))
    assert batches == -(-waiting // most)


# ---- the credit ------------------------------------------------------------------------------------------------------

BATCH_S, FULL_S = 0.005, 0.02


def first_s(share: BackgroundShare, start_s: float, runners: int = 1) -> float:
    """When the next batch may go first, to a millisecond."""
    return next(
        start_s + ms / 1000
        for ms in range(100_000)
        if share.may_go_first(BATCH_S, FULL_S, runners, start_s + ms / 1000)
    )


@pytest.mark.parametrize(("runners", "after_s"), [(1, 0.1), (4, 0.025)])
def test_a_batch_may_go_first_once_its_time_is_on_the_credit(runners: int, after_s: float) -> None:
    share = BackgroundShare(0.05)
    share.may_go_first(BATCH_S, FULL_S, runners, 10.0)
    assert first_s(share, 10.0, runners) == pytest.approx(10.0 + after_s, abs=0.0011)


def test_a_batch_that_took_longer_than_it_should_is_paid_for() -> None:
    share = BackgroundShare(0.05)
    share.may_go_first(BATCH_S, FULL_S, 1, 0.0)
    begun_s = first_s(share, 0.0)
    share.took(BATCH_S)
    share.took(0.010)  # 15 ms in the end
    assert first_s(share, begun_s) == pytest.approx(begun_s + 0.3, abs=0.003)


def test_what_is_saved_in_a_pause_is_one_batch_and_a_live_one() -> None:
    share = BackgroundShare(0.05)
    share.may_go_first(BATCH_S, FULL_S, 1, 0.0)
    taken = 0
    while share.may_go_first(BATCH_S, FULL_S, 1, 3600.0):
        share.took(BATCH_S)
        taken += 1
    assert taken == 1
    assert share.credit_max_s(BATCH_S, FULL_S, 1) == pytest.approx(0.006)


def test_where_live_batches_are_long_several_may_go_first_so_that_the_share_is_kept() -> None:
    share = BackgroundShare(0.05)
    share.may_go_first(BATCH_S, 1.0, 1, 0.0)
    taken = 0
    while share.may_go_first(BATCH_S, 1.0, 1, 1.0):
        share.took(BATCH_S)
        taken += 1
    assert taken == 10  # 50 ms of a second


def test_what_was_had_in_idle_times_is_forgiven_after_some_seconds() -> None:
    share = BackgroundShare(0.05)
    share.took(3600.0)
    assert not share.may_go_first(BATCH_S, FULL_S, 1, 0.0)
    assert first_s(share, 0.0) == pytest.approx(MEMORY_S + 0.1, abs=0.003)


def test_without_a_share_none_goes_first() -> None:
    share = BackgroundShare(0.0)
    assert not any(share.may_go_first(0.0, FULL_S, 1, now) for now in (0.0, 10.0, 1e6))
