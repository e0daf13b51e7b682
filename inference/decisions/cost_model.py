"""How long a batch takes by its rows, a line `a * rows + b` that is learned from every run. Pure.

Normalised least mean squares (Haykin, Adaptive Filter Theory, ch. 7): a run moves the line by a share of its error, and
only in the direction that the run speaks of. So a server that runs nothing but full batches for an hour forgets
neither what a single row costs nor divides by the spread of equal numbers, as a regression over decaying sums would.

A run that took far too long (the machine stood still) moves the line no more than an ordinarily slow one; a fast one
is believed, since no run is fast by bad luck.
"""

from __future__ import annotations

STEP = 0.1  # share of an error that is taken over: a changed model is known after some 30 runs
STEP_EARLY_RUNS = 8  # before that the step is 1 / (runs + 1), a plain mean
SLOW_DEVIATIONS_MAX = 3.0  # of the mean deviation, that one slow run may move the line
DEVIATION_MIN = 0.01  # of the prediction
DEVIATION_FIRST = 0.25
UPPER_SHARE = 0.98  # of the runs take at most `upper`
UPPER_STEP = 0.2  # of the deviation, or of the excess if that is more
UPPER_EXCESS_MAX = 4.0  # `upper` is at most five times the mean: what is beyond is a fault, not a spread
SEED_ROUNDS = 300  # over the first timings, after which the line goes through them


class CostModel:
    """Seconds of a batch by its rows. Knows nothing until the first `observe`; each call takes constant time."""

    __slots__ = ("_deviation", "_excess", "_rows_most", "a_s", "b_s", "runs")

    def __init__(self) -> None:
        self.a_s = 0.0  # a row
        self.b_s = 0.0  # a batch
        self.runs = 0
        self._rows_most = 1
        self._deviation = DEVIATION_FIRST  # mean distance of a run from the line, as a share of the prediction
        self._excess = DEVIATION_FIRST  # what UPPER_SHARE of the runs stay under, as a share of the prediction

    @property
    def known(self) -> bool:
        """Whether any run has been observed."""
        return self.runs > 0

    def predict(self, rows: int) -> float:
        """Mean seconds of a batch of `rows`; 0 while nothing is known."""
        return self.a_s * rows + self.b_s

    def upper(self, rows: int) -> float:
        """Seconds that a batch of `rows` stays under, but for about one in fifty; 0 while nothing is known."""
        return (self.a_s * rows + self.b_s) * (1.0 + self._excess)

    def rate(self, rows: int) -> float:
        """Rows a second of batches of `rows`; 0 while nothing is known."""
        run_s = self.predict(rows)
        return rows / run_s if run_s > 0.0 else 0.0

    def seed(self, timings_s: dict[int, float]) -> None:
        """Seconds by rows, as the probe measures them before the first run; later it changes nothing."""
        if self.known:
            return
        for _ in range(SEED_ROUNDS):
            for rows, run_s in timings_s.items():
                self.observe(rows, run_s)
        # A probe shows neither how runs differ nor what they cost under load.
        self._deviation = self._excess = DEVIATION_FIRST
        self.runs = min(self.runs, STEP_EARLY_RUNS)

    def observe(self, rows: int, run_s: float) -> None:
        """A batch of `rows` took `run_s`. What cannot be true (no rows, no time, not finite) is not learned."""
        if rows < 1 or not 0.0 < run_s < 1e9:
            return
        predicted_s = self.a_s * rows + self.b_s
        surprise = run_s / predicted_s - 1.0 if predicted_s > 0.0 else 0.0
        if not self.runs or (surprise < -0.5 and self.runs < STEP_EARLY_RUNS and rows <= self._rows_most):
            # The first run, or a first run that was no measure (warming up). Half a row, half a batch: a little too
            # much for smaller batches, and for larger ones within a factor of two.
            self.a_s, self.b_s = run_s / 2 / rows, run_s / 2
        else:
            self._move(rows, predicted_s, surprise)
            self._learn_spread(surprise)
        self.runs += 1
        self._rows_most = max(rows, self._rows_most)

    def _move(self, rows: int, predicted_s: float, surprise: float) -> None:
        slow_max = SLOW_DEVIATIONS_MAX * self._deviation
        step = max(STEP, 1.0 / (self.runs + 1)) * min(surprise, slow_max) * predicted_s
        size = rows / max(rows, self._rows_most)  # both directions have about length 1, whatever the batches hold
        step /= 1.0 + size * size
        self.b_s += step
        self.a_s += step * size * size / rows
        if self.b_s < 0.0:  # keep what it says for these rows
            self.a_s, self.b_s = max(0.0, self.a_s + self.b_s / rows), 0.0
        elif self.a_s < 0.0:
            self.a_s, self.b_s = 0.0, max(0.0, self.b_s + self.a_s * rows)

    def _learn_spread(self, surprise: float) -> None:
        deviation = self._deviation
        distance = min(abs(surprise), 2 * SLOW_DEVIATIONS_MAX * deviation)
        self._deviation = max(DEVIATION_MIN, deviation + STEP * (distance - deviation))
        step = max(deviation, self._excess) * (UPPER_STEP + 4.0 / (self.runs + 1))
        excess = self._excess + step * (UPPER_SHARE if surprise > self._excess else UPPER_SHARE - 1.0)
        self._excess = min(max(0.0, excess), UPPER_EXCESS_MAX)
