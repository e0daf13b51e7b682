"""Cores shared out over versions: who gets one, who gives one, and what is never exceeded."""

from __future__ import annotations

from inference.decisions.runner_load import RunnerBounds
from inference.decisions.scaling import Change, Grow, Scaling, ScalingPolicy, Shrink
from inference.model import ModelKey
from tests.inference.decisions.runner_totals import Totals

A, B, C = ModelKey("a", 1), ModelKey("b", 1), ModelKey("c", 1)
FULL = {"rows_per_s": 100.0, "wait_s": 0.05}
BURST = {"rows_per_s": 400.0, "wait_s": 0.5}
QUIET = {"rows_per_s": 10.0, "wait_s": 0.0}
SLEEPS = {"rows_per_s": 0.0, "wait_s": 0.0}


class Machine:
    """Versions under loads that the test dictates; changes are carried out at once."""

    def __init__(self, cores: int, **totals: Totals) -> None:
        self.scaling = Scaling(ScalingPolicy(cores))
        self.totals = {ModelKey(name, 1): held for name, held in totals.items()}
        self.now = 0.0
        self.scaling.evaluate({key: held.load() for key, held in self.totals.items()}, 0.0)

    def live(self, seconds: float, **loads: dict[str, float]) -> list[Change]:
        """Each version under its load for so long; what was decided."""
        made: list[Change] = []
        for _ in range(round(seconds / self.scaling.policy.interval_s)):
            self.now = self.scaling.next_deadline()
            by_key = {ModelKey(name, 1): load for name, load in loads.items()}
            readings = {k: held.pass_time(0.25, **by_key.get(k, SLEEPS)) for k, held in self.totals.items()}
            for change in self.scaling.evaluate(readings, self.now):
                self.totals[change.key].runners += change.by if isinstance(change, Grow) else -change.by
                made.append(change)
            assert {key: self.scaling.wanted(key) for key in self.totals} == {
                key: held.runners for key, held in self.totals.items()
            }
        return made


def test_a_pressed_version_gets_a_runner_and_gives_it_back():
    machine = Machine(2, a=Totals())
    assert machine.live(2.0, a=FULL) == [Grow(A, 1, "delay")]
    assert machine.live(60.0, a=QUIET) == [Shrink(A, 1, "ease")]


def test_a_burst_says_so():
    assert Machine(2, a=Totals()).live(2.0, a=BURST) == [Grow(A, 1, "burst")]


def test_more_runners_than_cores_are_never_wanted():
    machine = Machine(4, a=Totals())
    machine.live(30.0, a={"rows_per_s": 5000.0, "wait_s": 1.0})
    assert machine.scaling.wanted(A) == 4


def test_a_runner_with_two_threads_takes_two_cores():
    machine = Machine(5, a=Totals(RunnerBounds(1, 8, runner_cores=2)))
    machine.live(30.0, a={"rows_per_s": 5000.0, "wait_s": 1.0})
    assert machine.scaling.wanted(A) == 2
    assert machine.scaling.charged_cores == 4


def test_too_few_runners_are_started_whatever_the_cores():
    machine = Machine(1, a=Totals(RunnerBounds(2, 4), runners=2), b=Totals(RunnerBounds(1, 1)))
    machine.totals[A].runners = 0
    assert machine.live(0.25, a=FULL, b=FULL) == [Grow(A, 2, "minimum")]


def test_too_many_runners_end():
    machine = Machine(8, a=Totals(RunnerBounds(1, 2), runners=5))
    assert machine.live(0.25, a=FULL) == [Shrink(A, 3, "maximum")]


def test_a_runner_that_brings_nothing_is_taken_back():
    machine = Machine(2, a=Totals())
    machine.live(2.0, a=BURST)
    machine.totals[A].row_s = 0.02
    assert machine.live(3.0, a=BURST) == [Shrink(A, 1, "no_gain")]
    machine.totals[A].row_s = 0.01
    assert machine.live(55.0, a=BURST) == []
    assert machine.live(6.0, a=BURST) == [Grow(A, 1, "burst")]


def test_a_sleeping_version_lends_its_core_and_gets_it_back_when_it_wakes():
    machine = Machine(2, a=Totals(), b=Totals())
    assert machine.live(3.0, a=BURST) == [Grow(A, 1, "burst")]
    made = machine.live(3.0, a=BURST, b=FULL)
    assert made == [Shrink(A, 1, "budget")]


def test_the_longest_wait_wins_the_last_core():
    machine = Machine(3, a=Totals(), b=Totals())
    made = machine.live(2.0, a={**BURST, "wait_s": 0.5}, b={**BURST, "wait_s": 0.9})
    assert made == [Grow(B, 1, "burst")]


def test_waits_are_weighed_by_the_cores_that_a_runner_takes():
    wide = Totals(RunnerBounds(1, 8, runner_cores=2))
    machine = Machine(5, a=wide, b=Totals())
    made = machine.live(2.0, a={**BURST, "wait_s": 0.8}, b={**BURST, "wait_s": 0.5})
    assert made == [Grow(B, 1, "burst")]  # 0.4 s a core against 0.5


def test_a_version_at_ease_gives_before_a_busy_one():
    busy, idle = Totals(runners=2), Totals(runners=2)
    machine = Machine(5, a=Totals(), b=busy, c=idle)
    made = machine.live(2.5, a=BURST, b={"rows_per_s": 180.0, "wait_s": 0.0}, c=QUIET)
    assert made == [Shrink(C, 1, "budget"), Grow(A, 1, "burst")]


def test_a_busy_version_gives_only_if_the_worst_wait_falls_by_it():
    load = {"rows_per_s": 350.0, "wait_s": 0.3}
    machine = Machine(4, a=Totals(), b=Totals(runners=3))
    assert machine.live(20.0, a={"rows_per_s": 110.0, "wait_s": 0.35}, b=load) == []
    made = machine.live(20.0, a={"rows_per_s": 110.0, "wait_s": 2.0}, b=load)
    assert made[:2] == [Shrink(B, 1, "budget"), Grow(A, 1, "burst")]
    assert len(made) == 2


def test_nobody_gives_unless_all_that_is_lacking_can_be_found():
    wide = Totals(RunnerBounds(1, 8, runner_cores=4))
    machine = Machine(6, a=wide, b=Totals(runners=2))
    assert machine.live(3.0, a=BURST, b=QUIET) == []
    assert machine.scaling.wanted(B) == 2


def test_several_give_together_what_one_alone_could_not():
    wide = Totals(RunnerBounds(1, 8, runner_cores=2))
    machine = Machine(6, a=wide, b=Totals(runners=2), c=Totals(runners=2))
    made = machine.live(2.5, a=BURST, b=QUIET, c=QUIET)
    assert made == [Shrink(B, 1, "budget"), Shrink(C, 1, "budget"), Grow(A, 1, "burst")]


def test_a_closed_version_frees_its_cores_and_is_forgotten():
    machine = Machine(2, a=Totals(), b=Totals(runners=2))
    machine.live(5.0, a=BURST, b={"rows_per_s": 300.0, "wait_s": 0.5})
    del machine.totals[B]
    assert machine.live(3.0, a=BURST) == [Grow(A, 1, "burst")]
    assert machine.scaling.wanted(B) == 0
    assert machine.scaling.utilisation(B) == 0.0


def test_utilisation_is_the_share_of_the_runners_time():
    machine = Machine(4, a=Totals(runners=2))
    machine.live(5.0, a={"rows_per_s": 150.0, "wait_s": 0.0})
    assert round(machine.scaling.utilisation(A), 2) == 0.75


def test_the_next_evaluation_is_due_an_interval_later():
    scaling = Scaling(ScalingPolicy(1, interval_s=0.5))
    assert scaling.evaluate({}, 7.0) == []
    assert scaling.next_deadline() == 7.5
