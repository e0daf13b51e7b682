"""The search for the best batch size, against an exhaustive sweep, on seeded machines that are noisy and drift."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from inference.decisions.batch_search import BatchPolicy, BatchSearch

JOB_ROWS = 5_000_000
BLOCK_ROWS = 16_384
SHARE_MIN = 0.95  # of the best size's rate
COST_MAX = 0.02  # of the job

Curve = Callable[[int], float]


def line(row_s: float, batch_s: float) -> Curve:
    """A cost for each row and one for each batch."""
    return lambda rows: row_s * rows + batch_s


def cliff(row_s: float, batch_s: float, fits: int, factor: float) -> Curve:
    """Beyond `fits` rows the working set leaves the cache, and every row costs more."""
    return lambda rows: batch_s + row_s * (rows if rows <= fits else fits + (rows - fits) * factor)


def tiles(row_s: float, batch_s: float, tile: int) -> Curve:
    """Rows are computed by whole tiles."""
    return lambda rows: batch_s + row_s * math.ceil(rows / tile) * tile


def valley(row_s: float, best: int, steepness: float) -> Curve:
    """A row costs least at `best` rows, and more in both directions."""
    return lambda rows: rows * row_s * (1 + steepness * math.log2(rows / best) ** 2)


CURVES: dict[str, tuple[Curve, int]] = {
    "LSTM": (cliff(10.5e-6, 40e-6, 96, 1.35), BLOCK_ROWS),
    "quick LSTM": (line(2e-6, 60e-6), BLOCK_ROWS),
    "a cliff between two powers": (cliff(10e-6, 150e-6, 48, 3.0), BLOCK_ROWS),
    "tiles": (tiles(5e-6, 30e-6, 16), BLOCK_ROWS),
    "tiles of 24": (tiles(5e-6, 30e-6, 24), 4096),
    "valley": (valley(10e-6, 11, 0.05), BLOCK_ROWS),
    "nothing to gain": (line(10e-6, 0.0), BLOCK_ROWS),
    "alone": (valley(10e-6, 1, 0.3), 1024),
    "pictures": (line(3e-3, 1e-3), 64),
    "few rows": (line(10e-6, 100e-6), 3),
}


@dataclass
class Machine:
    """Runs batches in virtual time. Its speed drifts and jumps, and now and then a run is held up."""

    curve: Curve
    seed: int
    noise: float = 0.04
    drift: float = 0.3  # how much slower it gets, and back, within some seconds
    held_up: float = 0.03  # share of the runs

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.now_s = 0.0
        self.slow = 1.0
        self.warm: set[int] = set()

    def run(self, rows: int) -> float:
        """Seconds of a batch."""
        wave = 1 + self.drift * (0.5 + 0.5 * math.sin(self.now_s * 2 + self.seed))
        if self.random.random() < 0.002:  # another process begins, or ends
            self.slow = self.random.choice([1.0, 1.0, 1.25])
        run_s = self.curve(rows) * wave * self.slow * math.exp(self.random.gauss(0, self.noise))
        if self.random.random() < self.held_up:
            run_s *= 1 + 4 * self.random.random()
        if rows not in self.warm:
            self.warm.add(rows)
            run_s *= 2
        self.now_s += run_s
        return run_s


@dataclass
class Outcome:
    """What a search came to: its size, the share of the best rate that it has, and its cost as a share of the job."""

    best: int
    share: float
    cost: float


def work(search: BatchSearch, machine: Machine, rows_max: int, rows: int = JOB_ROWS) -> Outcome:
    """Run a job's rows until the search has settled. Costs count without noise and drift, which all sizes have."""
    rates = {size: size / machine.curve(size) for size in range(1, min(rows_max, 4096) + 1)}
    rates |= {size: size / machine.curve(size) for size in range(4096, rows_max + 1, 512)}
    best_rate = max(rates.values())
    lost_s, block = 0.0, 0
    while not search.settled and rows > 0:
        block = block or min(BLOCK_ROWS, rows)
        batch = min(search.next_rows(), block)
        search.observe(batch, machine.run(batch))
        lost_s += machine.curve(batch) - batch / best_rate
        block -= batch
        rows -= batch
    assert search.settled
    share = search.best / machine.curve(search.best) / best_rate
    return Outcome(search.best, share, lost_s / (JOB_ROWS / best_rate))


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seed", range(12))
def test_it_comes_to_what_an_exhaustive_sweep_finds_and_costs_little(name: str, seed: int) -> None:
    curve, rows_max = CURVES[name]
    outcome = work(BatchSearch(BatchPolicy(rows_max)), Machine(curve, seed), rows_max)
    assert outcome.share >= SHARE_MIN, outcome
    assert outcome.cost <= COST_MAX, outcome


@pytest.mark.parametrize("seed", range(6))
def test_a_machine_twice_as_noisy_is_no_harder(seed: int) -> None:
    curve, rows_max = CURVES["LSTM"]
    machine = Machine(curve, seed, noise=0.08, drift=0.6, held_up=0.08)
    outcome = work(BatchSearch(BatchPolicy(rows_max)), machine, rows_max)
    assert outcome.share >= SHARE_MIN, outcome
    assert outcome.cost <= COST_MAX, outcome


def test_sizes_that_are_timed_one_after_the_other_would_be_misjudged() -> None:
    """The world has teeth: rates that are not taken within one round choose a bad size on some of its machines."""
    curve, _ = CURVES["a cliff between two powers"]
    sizes = [1 << power for power in range(11)]
    shares = []
    for seed in range(12):
        machine = Machine(curve, seed)
        rates = {size: size / machine.run(size) for size in sizes}
        chosen = max(sizes, key=lambda size: rates[size])
        best = max(size / curve(size) for size in range(1, 1024))
        shares.append(chosen / curve(chosen) / best)
    assert min(shares) < SHARE_MIN


@pytest.mark.parametrize("name", ["LSTM", "tiles", "pictures"])
def test_what_is_known_from_an_earlier_search_is_confirmed_sooner(name: str) -> None:
    curve, rows_max = CURVES[name]
    first = work(BatchSearch(BatchPolicy(rows_max)), Machine(curve, 1), rows_max)
    again = work(BatchSearch(BatchPolicy(rows_max), first.best), Machine(curve, 2), rows_max)
    assert again.share >= SHARE_MIN
    assert again.cost <= max(first.cost, COST_MAX / 4)


def test_what_is_known_wrongly_by_a_factor_of_two_is_mended() -> None:
    curve, rows_max = CURVES["a cliff between two powers"]
    outcome = work(BatchSearch(BatchPolicy(rows_max), 96), Machine(curve, 5), rows_max)
    assert outcome.share >= SHARE_MIN


def test_no_size_above_the_most_rows_is_ever_asked_for() -> None:
    search, machine = BatchSearch(BatchPolicy(100)), Machine(line(1e-6, 1e-3), 3)
    asked = set()
    while not search.settled:
        asked.add(search.next_rows())
        search.observe(search.next_rows(), machine.run(search.next_rows()))
    assert max(asked) == 100
    assert search.best == 100


@pytest.mark.parametrize("limit", [1, 2, 3, 17, 64, 1000])
def test_what_is_refused_for_memory_is_never_asked_for_again(limit: int) -> None:
    search, machine = BatchSearch(BatchPolicy(BLOCK_ROWS)), Machine(line(1e-6, 1e-3), 4)
    refusals: list[int] = []
    for _ in range(20_000):
        rows = search.next_rows()
        assert rows < min(refusals, default=BLOCK_ROWS + 1)
        if rows > limit:
            refusals.append(rows)
            search.refused(rows)
        else:
            search.observe(rows, machine.run(rows))
    assert search.settled
    assert limit / 2 <= search.best <= limit
    search.refused(search.best)
    assert search.best == search.next_rows() <= max(1, limit - 1)


def test_a_size_that_never_comes_up_holds_nothing_up() -> None:
    """Blocks of 100 rows, where as many as 16,384 are allowed."""
    search, machine = BatchSearch(BatchPolicy(BLOCK_ROWS)), Machine(line(1e-6, 1e-3), 6)
    for _ in range(5000):
        rows = min(search.next_rows(), 100)
        search.observe(rows, machine.run(rows))
    assert search.settled
    assert 50 <= search.best <= 100


def test_a_run_that_would_hold_up_a_cancel_is_not_tried() -> None:
    search = BatchSearch(BatchPolicy(1024, run_s_max=0.2))
    asked = set()
    for _ in range(200):
        rows = search.next_rows()
        asked.add(rows)
        search.observe(rows, 0.01 * rows + 0.01)
    assert max(asked) == 16  # at 0.17 s; neither 32 nor 24
    assert search.settled


def test_the_curve_tells_of_every_size_that_ran() -> None:
    search = BatchSearch(BatchPolicy(4))
    for rows, seconds in ((1, 0.5), (1, 1.5), (3, 2.0), (3, math.nan), (3, 0.0), (0, 1.0)):
        search.observe(rows, seconds)
    assert [(s.rows, s.runs, s.seconds, s.squares) for s in search.curve] == [(1, 2, 2.0, 2.5), (3, 1, 2.0, 4.0)]


def test_the_same_times_give_the_same_search() -> None:
    curve, rows_max = CURVES["valley"]
    stories = []
    for _ in range(2):
        search, machine, story = BatchSearch(BatchPolicy(rows_max)), Machine(curve, 9), []
        while not search.settled:
            story.append(search.next_rows())
            search.observe(story[-1], machine.run(story[-1]))
        stories.append(story)
    assert stories[0] == stories[1]
