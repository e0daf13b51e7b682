"""Scaling on a simulated machine: it follows a load, settles, and takes back what brings nothing.

Every world checks after each evaluation that bounds and budget hold. All of it is deterministic: a failure names the
seed in the test's id, and the same seed replays it. One runner of the standard model does 50 rows/s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from inference.decisions import runner_gain, runner_need
from inference.decisions.runner_gain import RunnerGain
from inference.decisions.runner_load import Load, RunnerBounds, Window
from inference.decisions.runner_need import CHANGES_PER_MINUTE, RunnerNeed
from inference.decisions.scaling import Grow, Scaling, ScalingPolicy, Shrink
from tests.inference.simulation.scaling_world import SimulatedModel, World, in_turns

TARGET_S = 0.04  # half of a full batch
MORE = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8)]
SEEDS = [0, *MORE]


def world_of(seed: int, cores: int, *models: SimulatedModel) -> World:
    return World(seed, cores, list(models), ScalingPolicy(cores, target_delay_s=TARGET_S))


def reversals(world: World, name: str, from_s: float = 0.0) -> int:
    """How often growing turned into shrinking or back."""
    kinds = [type(change) for change in world.changed(name, from_s)]
    return sum(a is not b for a, b in pairwise(kinds))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_is_met_within_seconds_and_undone_within_a_minute(seed: int):
    model = SimulatedModel("a", lambda t: 110.0 if 20 <= t < 50 else 15.0, 110)
    world = world_of(seed, 4, model).run(115)
    assert world.changed("a", 0, 20) == []
    assert world.runners("a", 25) >= 3
    assert world.wait_s("a", 28, 50, 0.95) <= TARGET_S
    assert world.changed("a", 30, 50) == []
    assert world.runners("a", 115) == 1
    assert reversals(world, "a") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ramp_up_and_down_is_followed_without_a_step_back(seed: int):
    model = SimulatedModel("a", lambda t: max(5.0, 155.0 - abs(t - 75) * 2.5), 160)
    world = world_of(seed, 4, model).run(210)
    assert world.runners("a", 75) == 4
    assert world.wait_s("a", 0, 210, 0.9) <= 2 * TARGET_S
    assert world.runners("a", 210) == 1
    assert reversals(world, "a") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_burst_is_worked_off_by_more_runners_that_leave_slowly(seed: int):
    model = SimulatedModel("a", lambda t: 200.0 if 10 <= t < 12 else 12.0, 200)
    world = world_of(seed, 4, model).run(80)
    assert world.runners("a", 14) >= 2
    assert world.runners("a", 24) >= 3
    assert world.runners("a", 80) == 1
    assert reversals(world, "a") == 1
    assert world.wait_s("a", 19, 80, 0.95) <= TARGET_S


@pytest.mark.parametrize(
    "period_s", [60.0, pytest.param(20.0, marks=pytest.mark.slow), pytest.param(240.0, marks=pytest.mark.slow)]
)
def test_a_wave_is_met_and_changes_stay_few(period_s: float):
    model = SimulatedModel("a", lambda t: 75 + 65 * math.sin(t * 2 * math.pi / period_s), 140)
    until_s = 4 * period_s
    world = world_of(5, 4, model).run(until_s)
    assert world.wait_s("a", period_s, until_s, 0.9) <= 2 * TARGET_S
    long = period_s > 120  # then each half of it is worth a change
    assert reversals(world, "a") <= (8 if long else 6)
    assert reversals(world, "a", until_s / 2) <= (4 if long else 2)


@pytest.mark.parametrize(
    "period_s",
    [34.0, *(pytest.param(period_s, marks=pytest.mark.slow) for period_s in (2.0, 8.0, 16.0, 30.0, 32.0, 40.0, 62.0))],
)
def test_a_square_wave_at_the_pace_of_the_timers_does_not_make_it_flap(period_s: float):
    model = SimulatedModel("a", lambda t: 10.0 if (t // (period_s / 2)) % 2 else 115.0, 115)
    world = world_of(6, 4, model).run(9 * period_s)
    assert reversals(world, "a") <= 6
    assert reversals(world, "a", 5 * period_s) <= 2  # it has learnt


STEADY = [
    pytest.param(share, shape, marks=[] if share in {0.8, 2.2} and shape[2] == 4 else pytest.mark.slow)
    for share in (0.3, 0.6, 0.8, 0.95, 1.05, 1.3, 1.7, 2.2, 2.8, 3.4)
    for shape in ((0.016, 0.016, 4), (0.0, 0.02, 1), (0.06, 0.005, 16))
]


@pytest.mark.parametrize(("share", "shape"), STEADY)
def test_a_steady_load_is_settled_within_a_minute(share: float, shape: tuple[float, float, int]):
    model = SimulatedModel("a", lambda _: rate, 1.0, *shape)
    rate = model.rate_max = share * model.capacity
    world = world_of(7, 4, model).run(150)
    assert len(world.changed("a", 60)) <= 2
    assert reversals(world, "a") <= 2
    assert world.wait_s("a", 60, 150, 0.5) <= TARGET_S


@pytest.mark.parametrize("seed", SEEDS)
def test_a_runner_that_brings_nothing_is_taken_back_and_rarely_tried_again(seed: int):
    model = SimulatedModel("a", lambda t: 110.0 if t >= 20 else 20.0, 110, speed_of=in_turns, rows_max=60)
    world = world_of(seed, 4, model).run(230 if seed else 90)
    tries = [when for when, change in world.changes if isinstance(change, Grow)]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    least = [60, 120] if seed else [60]
    assert len(pauses) == len(least)
    assert all(pause >= wait for pause, wait in zip(pauses, least, strict=True))
    assert sum(0.25 for _, wanted in world.steps if wanted["a"] > 1) <= 3 * len(tries)  # seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_two_models_hand_the_cores_to_and_fro_as_their_loads_do(seed: int):
    first = SimulatedModel("a", lambda t: 115.0 if (t // 40) % 2 == 0 else 15.0, 115)
    second = SimulatedModel("b", lambda t: 15.0 if (t // 40) % 2 == 0 else 115.0, 115)
    world = world_of(seed, 4, first, second).run(120)
    assert (world.runners("a", 39), world.runners("b", 39)) == (3, 1)
    assert (world.runners("a", 79), world.runners("b", 79)) == (1, 3)
    assert (world.runners("a", 119), world.runners("b", 119)) == (3, 1)
    for name, busy_s in (("a", 15), ("b", 55), ("a", 95)):
        assert world.wait_s(name, busy_s, busy_s + 25, 0.9) <= 2 * TARGET_S


def test_two_models_that_both_want_all_cores_settle():
    models = [
        SimulatedModel("a", lambda _: 200.0, 200, rows_max=60),
        SimulatedModel("b", lambda _: 130.0, 130, rows_max=60),
    ]
    world = world_of(1, 4, *models).run(40)
    assert world.runners("a", 39) + world.runners("b", 39) == 4
    assert world.changed("a", 20) == world.changed("b", 20) == []


def test_a_model_that_sleeps_lends_its_core_until_it_wakes():
    busy = SimulatedModel("a", lambda _: 75.0, 75, rows_max=60)
    sleeper = SimulatedModel("b", lambda t: 30.0 if 20 <= t < 40 else 0.2, 30)
    world = world_of(1, 2, busy, sleeper).run(70)
    told = [(when, type(change), change.key.name) for when, change in world.changes]
    assert told == [
        (pytest.approx(1.5, abs=1), Grow, "a"),
        (pytest.approx(21, abs=1), Shrink, "a"),
        (pytest.approx(57, abs=3), Grow, "a"),
    ]
    assert world.wait_s("b", 25, 40, 0.9) <= 2 * TARGET_S


def test_a_large_model_on_several_threads_takes_its_cores_at_once():
    model = SimulatedModel("a", lambda _: 110.0, 110, bounds=RunnerBounds(1, 0, runner_cores=2), rows_max=60)
    world = world_of(2, 5, model).run(20)
    assert world.runners("a", 19) == 2


def no_verdict(self: RunnerGain, window: Window, load: Load, now: float) -> int:
    return load.runners


def always_at_ease(self: RunnerNeed, runners: int) -> bool:
    return True


def nothing_back(self: Scaling, now: float) -> list[Shrink]:
    return []


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "story"),
    [
        pytest.param(
            runner_need,
            "REGRETS_MAX",
            0,
            lambda: test_a_square_wave_at_the_pace_of_the_timers_does_not_make_it_flap(34.0),
            id="regrets nothing",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            RunnerNeed,
            "at_ease_with",
            always_at_ease,
            lambda: test_a_step_is_met_within_seconds_and_undone_within_a_minute(0),
            id="gives up what it needs",
        ),
        pytest.param(
            Scaling,
            "_reclaim",
            nothing_back,
            test_a_model_that_sleeps_lends_its_core_until_it_wakes,
            id="lends and never gets back",
        ),
        pytest.param(
            RunnerGain,
            "observe",
            no_verdict,
            lambda: test_a_runner_that_brings_nothing_is_taken_back_and_rarely_tried_again(0),
            id="keeps what brings nothing",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            runner_gain,
            "BAR_FIRST_S",
            0.0,
            lambda: test_a_runner_that_brings_nothing_is_taken_back_and_rarely_tried_again(0),
            id="tries again at once",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            runner_need,
            "MISSED_SHARE",
            9.0,
            lambda: test_a_steady_load_is_settled_within_a_minute(0.3, (0.06, 0.005, 16)),
            id="forgets what was too much",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_planted_bugs_are_caught(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wrong: object, story: Callable[[], None]
):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        story()


def random_world(seed: int, seconds: float) -> World:
    """Some models with loads, run times and bounds drawn from the seed, on some cores."""
    random = Random(seed)
    cores = random.randint(1, 6)
    models = []
    for number in range(random.randint(1, 3)):
        low, high, period_s = random.uniform(0, 30), random.uniform(20, 150), random.uniform(5, 90)
        least = random.choice([1, 1, 2])
        models.append(
            SimulatedModel(
                f"m{number}",
                lambda t, low=low, high=high, period_s=period_s: low if (t // period_s) % 2 else high,
                max(low, high),
                random.choice([0.0, 0.016, 0.06]),
                random.choice([0.004, 0.016, 0.06]),
                random.choice([1, 4, 16]),
                rows_max=random.choice([20, 80]),
                timeout_s=random.choice([0.2, 30.0]),
                speed_of=random.choice([float, float, math.sqrt, in_turns]),
                bounds=RunnerBounds(least, random.choice([0, 0, least, least + 1]), random.choice([1, 1, 2])),
                tells_row_s=random.random() < 0.5,
            )
        )
    return World(seed, cores, models).run(seconds)


def check_pace(world: World, seed: int) -> None:
    """Growth and ease keep to their number a minute, however the load goes."""
    for key in world.lanes:
        times = [when for when, c in world.changes if c.key == key and c.cause in {"delay", "burst", "ease"}]
        for when in times:
            assert sum(when <= other < when + 60 for other in times) <= CHANGES_PER_MINUTE, f"seed {seed}: {key} flaps"


@pytest.mark.parametrize("seed", range(4))
def test_bounds_budget_and_pace_hold_in_any_world(seed: int):
    check_pace(random_world(seed, 30), seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_bounds_budget_and_pace_hold_in_hundreds_of_worlds(first: int):
    for seed in range(first, first + 50):
        check_pace(random_world(1000 + seed, 90), seed)
