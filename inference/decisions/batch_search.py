"""Which batch size gives the most rows a second, found while the rows of a job are run. Pure: seconds are observed.

Sizes double from 1 until they no longer pay. Those that may be the best then race: in rounds, each has a turn of a few
runs, forwards and backwards in turn, and what counts is the ratio of two sizes within a round. So a machine that is
slower for a while is slower for all of them. A turn is the median of its runs and a size the median over its rounds,
so that a run that was held up says little. A size leaves when it is slower by three standard errors (of a median, from
the median absolute deviation), and the race ends when all that are left are as good as each other. The sizes between
the winner and its neighbours race once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from inference.shard import BatchSample

TURN_S = 0.010  # a turn takes at least so long, if that is no more than TURN_RUNS_MAX runs
TURN_RUNS = 3  # of which the median counts
TURN_RUNS_MAX = 64
LONG_RUN_S = 0.020  # a run that takes longer is a turn by itself
ROUNDS_MIN = 4
ROUNDS_MAX = 16
HOPELESS = math.log(0.6)  # of the best rate: one turn is enough to tell
WORSE = math.log(0.9)  # of the best rate: two rounds that both say so are enough
FALLING = math.log(0.9)  # of the best rate: two doublings that are worse end the climb
ALIKE = math.log(1.015)  # a smaller batch that is as good as this is taken: it stops sooner and needs less memory
SPREAD_MIN = 0.01  # of a size's rate, from round to round: three rounds may agree by chance
ERRORS_TO_LEAVE = 3.0
SHORT_MAX = 8  # runs in a row that had fewer rows than the size in turn: such batches do not come up
SAMPLES_MAX = 64  # sizes of the curve; tails of blocks may be of any size


@dataclass(frozen=True)
class BatchPolicy:
    """`rows_max`: of a batch, by the model's limit, the memory and the block. `run_s_max`: a cancel waits so long."""

    rows_max: int
    run_s_max: float = 1.0

    def __post_init__(self) -> None:
        assert self.rows_max >= 1, "a batch has a row"


class BatchSearch:
    """Use: run a batch of `next_rows()` rows, or of as many as there are, and `observe` it; on and on.

    `known`: the best size of an earlier search for the same model on the same machine, where the race begins.
    """

    def __init__(self, policy: BatchPolicy, known: int | None = None) -> None:
        self._run_s_max = policy.run_s_max
        self._rows_max = policy.rows_max
        self._samples: dict[int, BatchSample] = {}
        self._log_rates: dict[int, list[float]] = {}  # by size, one a round
        self._seen: set[int] = set()  # sizes that have warmed up
        self._turn: list[float] = []  # seconds of its runs
        self._short = 0
        self._best = 1
        self._settled = False
        self._refined = known is not None
        self._climbing = known is None
        self._falling = 0
        self._race = [1] if known is None else self._around(known, (0.5, 0.75, 1, 1.5, 2))
        self._queue = list(self._race)
        self._rounds = 0

    @property
    def best(self) -> int:
        """The best size so far."""
        return self._best

    @property
    def settled(self) -> bool:
        """Whether the search has ended."""
        return self._settled

    @property
    def curve(self) -> tuple[BatchSample, ...]:
        """What every size took, by size."""
        return tuple(self._samples[rows] for rows in sorted(self._samples))

    def next_rows(self) -> int:
        """How many rows the next batch should have."""
        return self._best if self._settled else self._queue[0]

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of `rows` took `seconds`, and gave its answers. What cannot be true is not learned."""
        if rows < 1 or not 0.0 < seconds < 1e9:
            return
        self._note(rows, seconds)
        if self._settled:
            return
        wanted = self._queue[0]
        if rows != wanted:
            self._short += 1
            if self._short >= SHORT_MAX and wanted > 1:
                self.refused(wanted)
            return
        self._short = 0
        if rows not in self._seen:
            self._seen.add(rows)  # the first run takes memory that later ones have
            return
        self._turn.append(seconds)
        if self._turn_ends():
            self._log_rates.setdefault(rows, []).append(math.log(rows / median(self._turn)))
            self._turn.clear()
            self._advance(rows)

    def refused(self, rows: int) -> None:
        """A batch of `rows` cannot be run, for want of memory; nor can any larger one."""
        self._rows_max = max(1, min(self._rows_max, rows - 1))
        self._turn.clear()
        self._short = 0
        self._race = [size for size in self._race if size <= self._rows_max] or [self._rows_max]
        self._log_rates = {size: rates for size, rates in self._log_rates.items() if size <= self._rows_max}
        if self._best > self._rows_max:
            self._best = self._leader(list(self._log_rates)) if self._log_rates else self._rows_max
        if self._settled:
            return
        self._queue = [size for size in self._queue if size <= self._rows_max]
        if not self._queue:
            self._end_of_round()

    def _note(self, rows: int, seconds: float) -> None:
        known = self._samples.get(rows)
        if known is None:
            if len(self._samples) < SAMPLES_MAX or not self._settled:
                self._samples[rows] = BatchSample(rows, 1, seconds, seconds * seconds)
            return
        runs, total, squares = known.runs + 1, known.seconds + seconds, known.squares + seconds * seconds
        self._samples[rows] = BatchSample(rows, runs, total, squares)

    def _turn_ends(self) -> bool:
        runs = len(self._turn)
        if self._turn[0] > LONG_RUN_S:
            return True
        return runs >= TURN_RUNS_MAX or (runs >= TURN_RUNS and sum(self._turn) >= TURN_S)

    def _advance(self, rows: int) -> None:
        self._queue.pop(0)
        if self._climbing:
            self._climb(rows)
        if not self._queue:
            self._end_of_round()

    def _climb(self, rows: int) -> None:
        """Whether twice as many rows are worth a try: not once two doublings gave less, nor above a bound."""
        rate = self._log_rates[rows][-1]
        self._best = self._leader(self._race)
        self._falling = self._falling + 1 if rate - self._log_rates[self._best][-1] < FALLING else 0
        larger = min(2 * rows, self._rows_max)
        if larger == rows or self._falling >= 2 or larger / math.exp(rate) > self._run_s_max:
            self._climbing = False
            return
        self._race.append(larger)
        self._queue.append(larger)

    def _end_of_round(self) -> None:
        """Who races on, in which order; or the end."""
        self._climbing = False
        measured = [size for size in self._race if size in self._log_rates]
        if measured:
            self._rounds = min(len(self._log_rates[size]) for size in measured)
            self._best = self._leader(measured)
            self._race = [size for size in measured if not self._leaves(size)]
        else:
            self._rounds = 0
        if self._rounds and (len(self._race) == 1 or self._rounds >= ROUNDS_MAX or self._all_alike()):
            self._end_of_race()
            return
        self._queue = self._race if self._rounds % 2 == 0 else self._race[::-1]
        self._queue = list(self._queue)

    def _leaves(self, size: int) -> bool:
        ratios = self._ratios(size)
        if max(ratios) < (WORSE if self._rounds > 1 else HOPELESS):
            return True
        distance, error = self._distance(size)
        return self._rounds >= ROUNDS_MIN and distance + ERRORS_TO_LEAVE * error < 0.0

    def _all_alike(self) -> bool:
        if self._rounds < ROUNDS_MIN:
            return False
        distances = [self._distance(size) for size in self._race]
        return all(abs(distance) + 2 * error < ALIKE for distance, error in distances)

    def _end_of_race(self) -> None:
        good = [size for size in self._race if self._distance(size)[0] > -ALIKE]
        self._best = min(good)
        longest = self._run_s_max * math.exp(median(self._log_rates[self._best]))
        between = [size for size in self._around(self._best, (0.75, 1, 1.5)) if size <= max(longest, self._best)]
        if self._refined or len(between) == 1:
            self._settled = True
            self._race = [self._best]
            return
        self._refined = True
        self._log_rates.clear()
        self._race = between
        self._rounds = 0
        self._queue = list(between)

    def _around(self, rows: int, factors: tuple[float, ...]) -> list[int]:
        """Sizes that are these multiples of `rows`, within bounds, rising."""
        sizes = {min(max(1, round(rows * factor)), self._rows_max) for factor in factors}
        return sorted(sizes)

    def _leader(self, sizes: list[int]) -> int:
        return max(sizes, key=lambda size: median(self._log_rates[size]))

    def _ratios(self, size: int) -> list[float]:
        """The size's rate by that of the best, a logarithm for each round."""
        mine, best = (self._log_rates[rows][-self._rounds :] for rows in (size, self._best))
        return [own - other for own, other in zip(mine, best, strict=True)]

    def _distance(self, size: int) -> tuple[float, float]:
        """How far the size's rate is from the best, as a logarithm, and the standard error of that."""
        if size == self._best:
            return 0.0, 0.0
        ratios = self._ratios(size)
        middle = median(ratios)
        spread = 1.4826 * median(abs(ratio - middle) for ratio in ratios)
        return middle, 1.2533 * max(spread, SPREAD_MIN) / math.sqrt(len(ratios))
