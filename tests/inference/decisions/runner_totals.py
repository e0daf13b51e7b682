"""The totals of a version under a load that the test dictates, to be read at each evaluation."""

from __future__ import annotations

from inference.decisions.runner_load import Load, RunnerBounds


class Totals:
    """A version; `pass_time` lets it work. One row takes `row_s` of a runner, and is a batch of its own."""

    def __init__(self, bounds: RunnerBounds | None = None, *, runners: int = 1, row_s: float = 0.01) -> None:
        self.bounds = bounds or RunnerBounds(runners_min=1, runners_max=8)
        self.runners = runners
        self.row_s = row_s
        self.arrived = self.refused = self.finished = self.waited_s = self.busy_s = 0.0
        self.wait_s = 0.0

    def pass_time(self, seconds: float, *, rows_per_s: float, wait_s: float, refused_per_s: float = 0.0) -> Load:
        """Rows come and wait so long; the runners do as many as they can."""
        done = min(rows_per_s, self.runners / self.row_s) * seconds
        self.arrived += (rows_per_s + refused_per_s) * seconds
        self.refused += refused_per_s * seconds
        self.finished += done
        self.waited_s += done * wait_s
        self.busy_s += done * self.row_s
        self.wait_s = wait_s
        return self.load()

    def load(self) -> Load:
        """The reading now."""
        return Load(
            self.bounds,
            self.runners,
            0,
            self.wait_s,
            self.row_s,
            round(self.arrived),
            round(self.refused),
            round(self.finished),
            self.waited_s,
            round(self.finished),
            round(self.finished),
            self.busy_s,
        )
