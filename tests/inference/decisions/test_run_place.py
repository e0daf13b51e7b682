"""Where a batch runs: every reason for a thread, one at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.decisions.run_place import DOUBT_S, HERE_MAX_S, STALL_S, RunPlace

SHORT_S = HERE_MAX_S / 2


def test_a_short_batch_runs_here_on_one_core_whoever_waits() -> None:
    place = RunPlace(cores=1)
    assert place.here(SHORT_S, 0.0, full=False, alone=True)
    assert place.here(SHORT_S, 0.0, full=False, alone=False)
    assert place.here(HERE_MAX_S, 0.0, full=False, alone=False)


def test_with_more_cores_only_a_lone_caller_s_batch_runs_here() -> None:
    place = RunPlace(cores=2)
    assert place.here(SHORT_S, 0.0, full=False, alone=True)
    assert not place.here(SHORT_S, 0.0, full=False, alone=False)


@pytest.mark.parametrize("upper_s", [None, HERE_MAX_S * 1.01, 5.0])
def test_a_batch_that_may_be_felt_or_of_which_nothing_is_known_has_a_thread(upper_s: float | None) -> None:
    assert not RunPlace(cores=1).here(upper_s, 0.0, full=False, alone=True)


def test_a_full_batch_has_a_thread_so_that_who_comes_after_it_is_read() -> None:
    assert not RunPlace(cores=1).here(SHORT_S, 0.0, full=True, alone=False)


def test_while_rounds_are_long_batches_have_threads() -> None:
    place = RunPlace(cores=1)
    place.rounds_short = False
    assert not place.here(SHORT_S, 0.0, full=False, alone=True)
    place.rounds_short = True
    assert place.here(SHORT_S, 0.0, full=False, alone=True)


@given(run_s=st.floats(0.0, 1.0), later_s=st.floats(0.0, 2 * DOUBT_S))
def test_after_a_stall_threads_have_the_work_for_a_while(run_s: float, later_s: float) -> None:
    place = RunPlace(cores=1)
    place.ran(run_s, 100.0)
    doubted = run_s > STALL_S and 100.0 + later_s < 100.0 + DOUBT_S
    assert place.here(SHORT_S, 100.0 + later_s, full=False, alone=True) is not doubted
