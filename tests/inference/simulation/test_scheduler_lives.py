"""Whole lives of a scheduler: nothing lost, nothing doubled, every batch the one that it has to be; bugs are caught."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from inference.decisions.band import Band, Entry
from inference.decisions.scheduler import Decision, Scheduler
from inference.request import LIVE_PRIORITIES, Priority, Slice
from tests.inference.simulation.life import live

LIVES = 250
LIVES_SLOW = 2500

# Each of these has to happen often, or the lives prove less than they say.
TOLD = ("answered", "cancelled", "expired", "failed", "queue_full", "too_large", "deadline_passed")
EVENTS = (*TOLD, "company", "cut", "overdue", "lent", "lost batches", "retired")


def test_every_promise_is_kept_after_every_event_of_hundreds_of_lives() -> None:
    seen: Counter[str] = Counter()
    for seed in range(LIVES):
        seen += live(seed).seen
    assert {event: seen[event] for event in EVENTS if seen[event] < LIVES // 4} == {}


@pytest.mark.slow
def test_every_promise_is_kept_after_every_event_of_thousands_of_lives() -> None:
    for seed in range(LIVES, LIVES + LIVES_SLOW):
        live(seed, arrivals=120)


def test_a_life_replays_from_its_seed() -> None:
    first, second = live(7), live(7)
    assert [made.id for made in first.told] == [made.id for made in second.told]
    assert list(first.told.values()) == list(second.told.values())


# ---- planted bugs ----------------------------------------------------------------------------------------------------


def caught(bug: type[Scheduler], promise: str) -> None:
    """The lives find this bug, by the promise that it breaks, and name the seed and how to replay it."""

    def lives() -> None:
        for seed in range(LIVES):
            live(seed, bug)

    with pytest.raises(AssertionError, match=rf"seed \d+ at .*{promise}.*replay with: python -m"):
        lives()


def test_a_counter_that_leaks_on_cancel_is_caught() -> None:
    class Leaks(Scheduler):
        def _leave_queue(self, entry: Entry) -> None:
            if self._waiting.pop(entry.request, None) is not None:
                self._bands[entry.request.priority].remove(entry)

    caught(Leaks, "rows or bytes leaked")


def test_a_batch_one_row_too_large_is_caught() -> None:
    class OneTooLarge(Scheduler):
        def _next_slices(self, now: float) -> list[Slice]:
            right = self._policy
            if right.batch_rows_max is not None:
                self._policy = msgspec.structs.replace(right, batch_rows_max=right.batch_rows_max + 1)
            slices = super()._next_slices(now)
            self._policy = right
            return slices

    caught(OneTooLarge, "a batch above the knee")


def test_a_batch_of_unlike_requests_is_caught() -> None:
    class Mixes(Scheduler):
        def _next_slices(self, now: float) -> list[Slice]:
            slices = super()._next_slices(now)
            rows = sum(part.rows for part in slices)
            for request, entry in list(self._waiting.items()):
                if request.group != slices[0].request.group and rows + request.rows <= (
                    self.policy.batch_rows_max or 0
                ):
                    self._bands[request.priority].remove(entry)
                    return [*slices, self._start(entry, entry.waiting_rows, now)]
            return slices

    caught(Mixes, "unlike requests")


def test_a_lost_runner_that_forgets_its_batch_is_caught() -> None:
    class Forgets(Scheduler):
        def runner_lost(self, runner: int, now: float) -> list[Slice]:
            super().runner_lost(runner, now)
            return []

    caught(Forgets, "a lost batch was not named")


def test_a_wrong_order_in_a_band_is_caught() -> None:
    class LatestFirst(Band):
        def add(self, entry: Entry) -> None:
            entry.due_s = -entry.due_s
            super().add(entry)

    class WrongOrder(Scheduler):
        def __init__(self, *limits) -> None:
            super().__init__(*limits)
            self._bands = {priority: LatestFirst() for priority in LIVE_PRIORITIES}

    caught(WrongOrder, "out of order")


def test_aging_that_is_switched_off_is_caught() -> None:
    class NeverOverdue(Scheduler):
        def _first(self, now: float) -> Entry:
            self._batches_in_order = 0
            return super()._first(now)

    caught(NeverOverdue, "out of order")


def test_a_band_that_is_ignored_is_caught() -> None:
    class ThreeBands(Scheduler):
        def __init__(self, *limits) -> None:
            super().__init__(*limits)
            self._bands[Priority.LOW] = self._bands[Priority.NORMAL]

    caught(ThreeBands, "out of order")


def test_a_wrong_remainder_of_a_cut_request_is_caught() -> None:
    class RepeatsARow(Scheduler):
        def _start(self, entry: Entry, rows: int, now: float) -> Slice:
            part = super()._start(entry, rows, now)
            if entry.waiting_rows:
                entry.next_row -= 1
                self._admission.waiting_rows += 1  # so well hidden that the counters agree with each other
            return part

    caught(RepeatsARow, "(out of order|rows or bytes leaked)")


def test_a_cut_request_that_keeps_its_place_is_caught() -> None:
    class KeepsItsPlace(Band):
        def add_rest(self, entry: Entry, turn: int) -> None:
            self.add(entry)

    class Hogs(Scheduler):
        def __init__(self, *limits) -> None:
            super().__init__(*limits)
            self._bands = {priority: KeepsItsPlace() for priority in LIVE_PRIORITIES}

    caught(Hogs, "out of order")


def test_a_caller_who_is_told_twice_is_caught() -> None:
    class TellsTwice(Scheduler):
        def tick(self, now: float) -> list[Decision]:
            decisions = super().tick(now)
            return [*decisions, *decisions[:1]]

    caught(TellsTwice, "was told twice")


def test_a_caller_who_is_never_told_is_caught() -> None:
    class Silent(Scheduler):
        def tick(self, now: float) -> list[Decision]:
            return super().tick(now)[1:]

    caught(Silent, "(callers|rows or bytes) leaked or lost")


def test_a_timer_that_rings_late_is_caught() -> None:
    class RingsLate(Scheduler):
        def next_deadline(self) -> float | None:
            super().next_deadline()
            return max((due_s for due_s, _, request in self._deadlines if request in self._live), default=None)

    caught(RingsLate, "waits beyond its deadline")


def test_a_runner_that_idles_while_somebody_waits_is_caught() -> None:
    class OneAtATime(Scheduler):
        def _dispatch(self, now: float) -> list[Decision]:
            idle, self._idle = self._idle, dict(list(self._idle.items())[-1:])
            decisions = super()._dispatch(now)
            self._idle = {runner: None for runner in idle if runner not in self._running}
            return decisions if len(idle) < 2 or not decisions else decisions[:1]

    caught(OneAtATime, "a runner idles while somebody waits")


def test_a_runner_that_is_lent_while_somebody_waits_is_caught() -> None:
    class LendsAll(Scheduler):
        def borrow_idle(self) -> int | None:
            if not self._idle and self._running:
                return next(iter(self._running))
            return super().borrow_idle()

    caught(LendsAll, "lent")
