"""Whole lives with a job beside the callers: its rows keep apart, to their cut and their share; bugs are caught."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from inference.decisions.background_band import BackgroundBand
from inference.decisions.background_share import BackgroundPolicy, BackgroundShare
from inference.decisions.scheduler import Decision, Run, Scheduler
from inference.request import Batch, Request, Slice
from tests.inference.simulation.background_life import live

LIVES = 120
LIVES_SLOW = 1500

EVENTS = (
    *("background answered", "background cut", "background first", "background refused", "background withdrawn"),
    *("answered", "cancelled", "expired", "failed", "company", "cut", "overdue", "lent", "retired"),
)


def test_every_promise_is_kept_after_every_event_of_lives_with_jobs() -> None:
    seen: Counter[str] = Counter()
    for seed in range(LIVES):
        seen += live(seed).seen
    assert {event: seen[event] for event in EVENTS if seen[event] < LIVES // 4} == {}
    assert seen["background lost"] > 5


@pytest.mark.slow
def test_every_promise_is_kept_after_every_event_of_many_lives_with_jobs() -> None:
    for seed in range(LIVES, LIVES + LIVES_SLOW):
        live(seed, arrivals=120)


def test_a_life_with_jobs_replays_from_its_seed() -> None:
    first, second = live(7), live(7)
    assert [made.id for made in first.told] == [made.id for made in second.told]
    assert [(made.id, what) for made, what in first.ended.items()] == [
        (made.id, what) for made, what in second.ended.items()
    ]


# ---- planted bugs ----------------------------------------------------------------------------------------------------


def caught(bug: type[Scheduler], promise: str) -> None:
    """The lives find this bug, by the promise that it breaks, and name the seed and how to replay it."""

    def lives() -> None:
        for seed in range(LIVES):
            live(seed, bug)

    with pytest.raises(AssertionError, match=rf"seed \d+ at .*{promise}.*replay with: python -m"):
        lives()


class With(Scheduler):
    """A scheduler whose band or share is of another class."""

    band: type[BackgroundBand] = BackgroundBand
    share: type[BackgroundShare] = BackgroundShare

    def __init__(self, *limits) -> None:
        super().__init__(*limits)
        policy = self.policy.background
        self._background = self.band(self.admission, policy, self.policy.batch_rows_max)
        self._background._share = self.share(policy.share_min)


def test_background_rows_in_a_live_batch_are_caught() -> None:
    class Joins(Scheduler):
        def _dispatch_live(self, now: float) -> list[Decision]:
            decisions = super()._dispatch_live(now)
            for place, decision in enumerate(decisions):
                if isinstance(decision, Run) and self._background.rows:
                    extra = self._background.start(decision.runner, now).slices
                    decisions[place] = Run(decision.runner, Batch((*decision.batch.slices, *extra)))
            return decisions

    caught(Joins, "background in a live batch")


def test_background_rows_in_a_band_of_callers_are_caught() -> None:
    class Lifts(Scheduler):
        def submit_background(self, request: Request, now: float) -> list[Decision]:
            return self.submit(msgspec.structs.replace(request, priority=4, deadline_s=now + 1e6), now)

    caught(Lifts, "")


def test_background_before_live_rows_whatever_its_share_is_caught() -> None:
    class First(With):
        class band(BackgroundBand):
            def may_go_first(self, runners: int, now: float) -> bool:
                return True

    caught(First, "(of background before live rows|without any share)")


def test_background_that_is_lifted_once_it_has_waited_long_is_caught() -> None:
    class Ages(With):
        class band(BackgroundBand):
            def may_go_first(self, runners: int, now: float) -> bool:
                return super().may_go_first(runners, now) or now - self._waiting[0].since_s > 0.3

    caught(Ages, "(of background before live rows|without any share)")


def test_a_share_that_is_never_charged_is_caught() -> None:
    class Free(With):
        class share(BackgroundShare):
            def took(self, seconds: float) -> None:
                pass

    caught(Free, "of background before live rows")


def test_a_credit_without_a_bound_is_caught() -> None:
    class Saves(With):
        class share(BackgroundShare):
            def credit_max_s(self, batch_s: float, full_s: float, runners: int) -> float:
                return 1e9

    caught(Saves, "of background before live rows")


def test_a_runner_that_idles_while_background_rows_wait_is_caught() -> None:
    class Lazy(Scheduler):
        def _dispatch(self, now: float) -> list[Decision]:
            return self._dispatch_live(now)

    caught(Lazy, "idles while background rows wait")


def test_a_background_batch_that_takes_too_long_is_caught() -> None:
    class Uncut(With):
        class band(BackgroundBand):
            def change_policy(self, policy: BackgroundPolicy, rows_max: int | None, runners: int) -> None:
                super().change_policy(msgspec.structs.replace(policy, batch_s_max=1.0), rows_max, runners)

    caught(Uncut, "another background batch")


def test_a_lost_runner_that_forgets_its_background_batch_is_caught() -> None:
    class Forgets(With):
        class band(BackgroundBand):
            def lost(self, runner: int, now: float) -> list[Slice]:
                super().lost(runner, now)
                return []

    caught(Forgets, "a lost batch unnamed")


def test_background_rows_that_leak_when_a_job_withdraws_are_caught() -> None:
    class Leaks(With):
        class band(BackgroundBand):
            def cancel(self, request: Request) -> bool:
                rows = self.rows
                known = super().cancel(request)
                self.rows = rows
                return known

    caught(Leaks, "background rows leaked")


def test_background_rows_that_count_as_live_ones_are_caught() -> None:
    class Counts(Scheduler):
        def submit_background(self, request: Request, now: float) -> list[Decision]:
            decisions = super().submit_background(request, now)
            self._admission.waiting_rows += request.rows
            return decisions

    caught(Counts, "rows or bytes leaked")
