"""The table of what waits, against a plain list that is worked out anew for every question."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decisions.band_demand import BANDS
from inference.decisions.committed_work import CommittedWork
from inference.request import LIVE_PRIORITIES, Priority, Request
from tests.inference.requests import request

ROW_S = 0.01
NO_KEEP = [(0.0, 0.0)] * BANDS
UNCUT = 100

# Deadlines are apart by whole cells or more, so the cells hide nothing.
WAITING = st.lists(
    st.tuples(st.sampled_from(LIVE_PRIORITIES), st.integers(1, 200), st.integers(1, 3)),
    max_size=25,
    unique_by=lambda item: item[:2],
)


def work_of(items: list[tuple[Priority, int, int]]) -> tuple[CommittedWork, list[Request]]:
    work, waiting = CommittedWork(), []
    for band, hundredths, rows in items:
        waiting.append(request(rows=rows, timeout_s=hundredths / 100 + 0.002, priority=band))
        work.add(waiting[-1], UNCUT)
    return work, waiting


def draw(work: CommittedWork, now: float = 0.0, start_s: float = 0.0, **others: float) -> None:
    patience_s = others.pop("patience_s", inf)
    work.draw(now, start_s, ROW_S, others.get("tail_s", 0.0), others.get("margin_s", 0.0), NO_KEEP, patience_s)


def ahead_of(work: CommittedWork, band: Priority, due_s: float, *, cut: bool = False) -> int:
    return work.look(band, due_s, 0.0, cut=cut)[0]


def spare_of(work: CommittedWork, band: Priority, due_s: float, shift_s: float) -> tuple[float, float]:
    return work.look(band, due_s, shift_s, cut=False)[1:]


def order(item: Request) -> tuple[int, float]:
    return item.priority, item.deadline_s


def done_s(waiting: list[Request], item: Request) -> float:
    return ROW_S * sum(other.rows for other in waiting if order(other) <= order(item))


def spare_s(waiting: list[Request], item: Request) -> float:
    """By how much one that waits may be put off; no end if it is lost."""
    done = done_s(waiting, item)
    return inf if done - item.rows * ROW_S >= item.deadline_s else item.deadline_s - done


@given(WAITING, st.sampled_from(LIVE_PRIORITIES), st.integers(1, 200))
def test_the_table_says_what_a_plain_list_says(items, band, hundredths):
    work, waiting = work_of(items)
    draw(work)
    due_s = hundredths / 100 + 0.006
    new = (band, due_s)
    assert ahead_of(work, band, due_s) == sum(item.rows for item in waiting if order(item) < new)
    own_s, below_s = spare_of(work, band, due_s, 0.0)
    own = [spare_s(waiting, item) for item in waiting if item.priority == band and order(item) > new]
    below = [spare_s(waiting, item) for item in waiting if item.priority > band]
    assert own_s == pytest.approx(min(own, default=inf))
    assert below_s == pytest.approx(min(below, default=inf))


@given(WAITING, WAITING, st.sampled_from(LIVE_PRIORITIES), st.integers(1, 200))
def test_between_two_drawings_it_errs_on_the_side_of_refusing(before, after, band, hundredths):
    work, waiting = work_of(before)
    draw(work)
    work._drawn_for_s = 1.0
    taken = {item[:2] for item in before}
    for item in after:
        if item[:2] in taken:
            continue
        new = request(rows=item[2], timeout_s=item[1] / 100 + 0.002, priority=item[0])
        done = (ahead_of(work, new.priority, new.deadline_s) + new.rows) * ROW_S
        own_s, below_s = spare_of(work, new.priority, new.deadline_s, 0.0)
        if done > new.deadline_s or min(own_s, below_s) < new.rows * ROW_S:
            continue  # it would be refused
        waiting.append(new)
        work.add(new, UNCUT)
        work.charge(new.priority, new.rows, 0.0, new.deadline_s - done, new.deadline_s - done)
    due_s = hundredths / 100 + 0.006
    own_s, below_s = spare_of(work, band, due_s, 0.0)
    ahead = ahead_of(work, band, due_s)
    draw(work)
    own_exact_s, below_exact_s = spare_of(work, band, due_s, 0.0)
    assert ahead >= ahead_of(work, band, due_s)
    assert own_s <= own_exact_s + 1e-9
    assert below_s <= below_exact_s + 1e-9


@given(WAITING, st.data())
@settings(max_examples=50)
def test_what_left_is_forgotten_to_the_last_row(items, data):
    work, waiting = work_of(items)
    for item in data.draw(st.permutations(waiting)):
        work.remove(item, item.rows, last=True)
        waiting.remove(item)
        draw(work)
        assert work.rows == sum(work.band_rows) == sum(other.rows for other in waiting)
        assert work.earliest_s == min((other.deadline_s for other in waiting), default=inf)
    assert (work.rows, work.earliest_s) == (0, inf)


def test_work_that_starts_as_predicted_changes_nothing():
    work, waiting = work_of([(Priority.NORMAL, 10, 2), (Priority.NORMAL, 20, 3)])
    draw(work)
    before = spare_of(work, Priority.NORMAL, 0.15, work.shift_s(0.0))
    work.remove(waiting[0], 2, last=True)
    work.started(2)
    after = spare_of(work, Priority.NORMAL, 0.15, work.shift_s(0.02))  # the runner is taken for two rows
    assert after == pytest.approx(before)
    late = spare_of(work, Priority.NORMAL, 0.15, work.shift_s(0.05))
    assert late[0] == pytest.approx(before[0] - 0.03)


def test_who_cannot_even_begin_in_time_keeps_nobody_else_out():
    work, _ = work_of([(Priority.NORMAL, 50, 3), (Priority.LOW, 2, 1), (Priority.LOW, 90, 1)])
    draw(work)
    assert spare_of(work, Priority.NORMAL, 0.1, 0.0) == pytest.approx((0.472, 0.852))


def test_the_rest_of_a_cut_request_is_done_when_its_band_is():
    work, _ = work_of([(Priority.NORMAL, 30, 1)])
    work.add(request(rows=200, timeout_s=5.0), UNCUT)
    draw(work)
    assert spare_of(work, Priority.NORMAL, 100.0, 0.0)[0] == pytest.approx(5.0 - 2.01), "even behind its own deadline"
    assert ahead_of(work, Priority.NORMAL, 0.01, cut=True) == 201


def test_overdue_requests_may_take_a_quarter_of_the_batches():
    work, _ = work_of([(Priority.HIGH, 100, 30), (Priority.LOW, 500, 60)])
    draw(work, now=0.5, start_s=0.5, patience_s=1.0)
    in_order_s = spare_of(work, Priority.HIGH, 0.9, 0.0)[0]
    draw(work, now=0.5, start_s=0.5, patience_s=0.2)
    assert spare_of(work, Priority.HIGH, 0.9, 0.0)[0] == pytest.approx(in_order_s - 0.1)


def test_the_margin_is_kept_as_far_as_the_time_allows():
    work, _ = work_of([(Priority.NORMAL, 20, 1), (Priority.NORMAL, 200, 1)])
    draw(work, tail_s=0.001, margin_s=0.2)
    assert spare_of(work, Priority.NORMAL, 0.1, 0.0)[0] == pytest.approx(0.202 - 0.01 - 0.001 - 0.0505)
    assert spare_of(work, Priority.NORMAL, 1.0, 0.0)[0] == pytest.approx(2.002 - 0.02 - 0.001 - 0.2)


def test_a_drawing_is_kept_for_a_while_and_for_longer_if_much_waits():
    work, _ = work_of([(Priority.NORMAL, hundredths, 1) for hundredths in range(1, 21)])
    assert work.outdated(0.0)
    draw(work)
    assert not work.outdated(0.002)
    assert work.outdated(0.0021)


def test_where_rows_take_long_it_is_drawn_after_every_accepted_request():
    slow, _ = work_of([(Priority.NORMAL, 10, 1)])
    draw(slow)
    slow.charge(Priority.NORMAL, 1, 0.0, 0.0, 0.0)
    assert slow.outdated(0.0)
    fast, _ = work_of([(Priority.NORMAL, 10, 1)])
    fast.draw(0.0, 0.0, 1e-5, 0.0, 0.0, NO_KEEP, inf)
    fast.charge(Priority.NORMAL, 1, 0.0, 0.0, 0.0)
    assert not fast.outdated(0.0)
