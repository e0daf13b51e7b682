"""One version's own judgement: when it is pressed, when at ease, and what keeps it from changing too often."""

from __future__ import annotations

import pytest

from inference.decisions.runner_load import RunnerBounds
from inference.decisions.runner_need import CHANGES_PER_MINUTE, RunnerNeed, ScalingPolicy
from tests.inference.decisions.runner_totals import Totals

POLICY = ScalingPolicy(cores=8)
STEP_S = POLICY.interval_s


class Story:
    """A version whose wishes are carried out or not, as the test says."""

    def __init__(self, totals: Totals | None = None, policy: ScalingPolicy = POLICY) -> None:
        self.totals = totals or Totals()
        self.now = 0.0
        self.need = RunnerNeed(policy, self.totals.load(), 0.0)

    def live(self, seconds: float, **load: float) -> Story:
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            self.need.observe(self.totals.pass_time(STEP_S, **load), self.now)
        return self

    def grow(self, by: int = 1) -> None:
        self.need.grow(by, self.now, on_trial=True)
        self.totals.runners = self.need.wanted

    def shrink(self, by: int = 1) -> None:
        self.need.shrink(by, self.now, at_ease=True)
        self.totals.runners = self.need.wanted

    @property
    def growth(self) -> int:
        return self.need.growth(self.now)

    @property
    def ease(self) -> int:
        return self.need.ease(self.now)


LATE = {"rows_per_s": 100.0, "wait_s": 0.05}  # one runner is full
BURST = {"rows_per_s": 400.0, "wait_s": 0.5}
QUIET = {"rows_per_s": 10.0, "wait_s": 0.0}


def test_waits_above_the_target_grow_it_after_a_second():
    story = Story().live(1.0, **LATE)
    assert story.growth == 0  # the first quarter was not pressed yet: its figures are smoothed
    assert story.live(1.0, **LATE).growth == 1


def test_a_burst_grows_it_in_half_the_time_and_as_far_as_it_needs():
    story = Story().live(1.25, **BURST)
    assert story.growth == 1  # at most twice as many
    story.totals.runners = story.need.wanted = 4
    assert story.live(2.0, rows_per_s=570.0, wait_s=0.5).growth == 4


def test_long_waits_with_idle_runners_have_another_cause():
    assert Story().live(5.0, rows_per_s=50.0, wait_s=1.0).growth == 0


def test_short_waits_with_busy_runners_are_no_reason():
    assert Story().live(5.0, rows_per_s=100.0, wait_s=0.01).growth == 0


def test_refusals_are_pressure_though_nobody_waits_long():
    story = Story().live(2.0, rows_per_s=100.0, refused_per_s=100.0, wait_s=0.01)
    assert story.growth == 1
    assert story.need.burst


def test_it_never_grows_beyond_its_bounds():
    story = Story(Totals(RunnerBounds(1, 2)))
    story.live(3.0, **BURST)
    story.grow()
    assert story.live(5.0, **BURST).growth == 0


@pytest.mark.parametrize(("bounds", "most"), [(RunnerBounds(), 8), (RunnerBounds(1, 0, 3), 2), (RunnerBounds(4, 3), 4)])
def test_without_a_bound_there_are_as_many_runners_as_the_cores_allow(bounds: RunnerBounds, most: int):
    assert RunnerNeed(POLICY, Totals(bounds).load(), 0.0).runners_max == most


def test_a_growth_is_measured_before_the_next():
    story = Story().live(3.0, **BURST)
    story.grow()
    story.live(1.0, **BURST)
    assert story.growth == 0
    assert story.need.idlers(story.now) == 0
    story.live(0.5, **BURST)
    assert story.need.idlers(story.now) == 0
    assert story.growth == 2  # measured, and it paid


def test_a_growth_that_brings_nothing_is_told():
    story = Story().live(3.0, **BURST)
    assert story.need.idlers(story.now) == 0
    story.grow()
    story.totals.row_s = 0.02  # each row takes twice as long now
    story.live(2.0, **BURST)
    assert story.need.idlers(story.now) == 1
    story.shrink()
    story.totals.row_s = 0.01
    assert story.live(20.0, **BURST).growth == 0


def test_ease_gives_up_a_runner_after_a_quarter_minute():
    story = Story(Totals(runners=3))
    assert story.live(14.0, **QUIET).ease == 0
    assert story.live(2.0, **QUIET).ease == 1


def test_many_runners_go_by_the_quarter_and_never_below_the_least():
    story = Story(Totals(runners=8)).live(16.0, **QUIET)
    assert story.ease == 2
    story.shrink(7)
    assert story.live(60.0, **QUIET).ease == 0


def test_one_busy_moment_starts_the_wait_anew():
    story = Story(Totals(runners=2)).live(14.0, **QUIET).live(2.0, rows_per_s=180.0, wait_s=0.0)
    assert story.live(14.0, **QUIET).ease == 0


def test_work_that_fewer_runners_could_barely_do_is_no_ease():
    story = Story(Totals(runners=2))
    assert story.live(60.0, rows_per_s=65.0, wait_s=0.0).ease == 0
    assert story.live(20.0, rows_per_s=55.0, wait_s=0.0).ease == 1


def test_a_load_that_was_too_much_for_a_runner_is_no_ease_for_as_many():
    story = Story().live(3.0, rows_per_s=50.0, wait_s=0.0)
    story.grow()
    assert story.live(60.0, rows_per_s=50.0, wait_s=0.0).ease == 0
    assert story.live(25.0, rows_per_s=35.0, wait_s=0.0).ease == 1


def test_what_was_too_much_is_forgotten_in_time():
    story = Story().live(3.0, rows_per_s=50.0, wait_s=0.0)
    story.grow()
    assert story.live(890.0, rows_per_s=50.0, wait_s=0.0).ease == 0
    assert story.live(26.0, rows_per_s=50.0, wait_s=0.0).ease == 1


def test_after_a_shrink_only_a_burst_makes_it_grow():
    story = Story(Totals(runners=2)).live(16.0, **QUIET)
    story.shrink()
    assert story.live(10.0, **LATE).growth == 0
    assert story.live(2.0, **BURST).growth == 1
    patient = Story(Totals(runners=2)).live(16.0, **QUIET)
    patient.shrink()
    assert patient.live(17.0, **LATE).growth == 1


def test_a_shrink_that_is_undone_soon_doubles_the_wait_before_the_next():
    story = Story(Totals(runners=2))
    for wait_s in (15.0, 30.0, 60.0, 120.0, 240.0, 240.0):
        assert story.live(wait_s, **QUIET).ease == 0
        assert story.live(7.0, **QUIET).ease == 1  # the figures take their time to fall
        story.shrink()
        story.live(3.0, **BURST)
        assert story.growth >= 1
        story.grow()
        story.live(2.0, **BURST)


def test_a_regret_is_forgiven_after_a_long_time():
    story = Story(Totals(runners=2)).live(16.0, **QUIET)
    story.shrink()
    story.live(3.0, **BURST)
    story.grow()
    assert story.live(20.0, **QUIET).ease == 0  # 30 s now
    story.live(240.0, rows_per_s=150.0, wait_s=0.0)
    assert story.live(35.0, **QUIET).ease == 1
    story.shrink()
    story.live(20.0, rows_per_s=80.0, wait_s=0.0)
    story.grow()  # too late to be a regret
    assert story.live(18.0, **QUIET).ease == 1  # 15 s again


def test_the_changes_of_a_minute_are_bounded_and_half_of_them_are_kept_for_growth():
    story = Story(Totals(runners=4))
    for _ in range(CHANGES_PER_MINUTE // 2):
        story.need.grow(1, story.now, on_trial=False)
        story.totals.runners += 1
    assert story.live(30.0, **QUIET).ease == 0
    assert story.live(31.0, **QUIET).ease >= 1
    restless = Story(Totals(RunnerBounds(1, 40), runners=4))
    for _ in range(CHANGES_PER_MINUTE):
        restless.need.grow(1, restless.now, on_trial=False)
        restless.totals.runners += 1
    assert restless.live(50.0, rows_per_s=4000.0, wait_s=1.0).growth == 0
    assert restless.live(12.0, rows_per_s=4000.0, wait_s=1.0).growth > 0


def test_a_minimum_counts_against_the_cores_only_while_it_works():
    story = Story()
    assert story.need.charge_cores == 0
    story.live(3.0, rows_per_s=60.0, wait_s=0.0)
    assert story.need.charge_cores == 1
    story.live(14.0, rows_per_s=1.0, wait_s=0.0)
    assert story.need.charge_cores == 1
    story.live(4.0, rows_per_s=1.0, wait_s=0.0)
    assert story.need.charge_cores == 0


def test_a_lost_runner_is_noticed():
    story = Story(Totals(runners=3)).live(1.0, **LATE)
    story.totals.runners = 2
    assert story.live(STEP_S, **LATE).need.wanted == 2
