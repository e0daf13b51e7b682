"""What the runners of one version have been doing: running totals in, figures out. Pure: `now` in seconds.

The shell keeps totals that never fall and takes no differences, so that an evaluation which comes late, or not at all,
loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

SMOOTHING_S = 0.5  # of delay, busy runners, demand and refusals: a fresh value weighs 40 % after a quarter second
USUAL_S = 2.0  # of the demand that decides about giving up: a chance bunch of arrivals must not count as work


@dataclass(slots=True, frozen=True)
class RunnerBounds:
    """How many runners a version may have, and the cores that each keeps busy (its intra-op threads).

    `runners_max` 0: as many as the cores allow.
    """

    runners_min: int = 1
    runners_max: int = 0
    runner_cores: int = 1


@dataclass(slots=True, frozen=True)
class Load:
    """One version at one moment: what is so now, and totals since it was opened."""

    bounds: RunnerBounds
    runners: int  # that run, idle or are being started; not those that end after their batch
    waiting_rows: int = 0
    oldest_wait_s: float = 0.0  # of what waits now
    row_s: float = 0.0  # seconds of a runner that one row of a full batch takes; 0: not known
    arrived_rows: int = 0  # accepted or refused
    refused_rows: int = 0  # of those, for want of room or time
    dispatched: int = 0  # requests that a runner took up
    waited_s: float = 0.0  # sum of their waits
    finished_rows: int = 0
    batches: int = 0  # finished
    busy_s: float = 0.0  # runner-seconds in batches, those of running batches up to now included


@dataclass(slots=True, frozen=True)
class Window:
    """What happened between two moments of one version."""

    seconds: float
    arrived_rows: int
    refused_rows: int
    dispatched: int
    waited_s: float
    finished_rows: int
    batches: int
    busy_s: float

    @property
    def rows_per_s(self) -> float:
        """Rows that left the runners, a second."""
        return self.finished_rows / self.seconds

    @property
    def wait_s(self) -> float:
        """Mean wait of the requests that a runner took up; 0 if there were none."""
        return self.waited_s / self.dispatched if self.dispatched else 0.0


def between(before: Load, after: Load, seconds: float) -> Window:
    """What two readings of the totals, `seconds` > 0 apart, say."""
    return Window(
        seconds,
        after.arrived_rows - before.arrived_rows,
        after.refused_rows - before.refused_rows,
        after.dispatched - before.dispatched,
        after.waited_s - before.waited_s,
        after.finished_rows - before.finished_rows,
        after.batches - before.batches,
        after.busy_s - before.busy_s,
    )


class LoadTrace:
    """The smoothed figures of one version, from its first reading on."""

    def __init__(self, load: Load, now: float) -> None:
        self.load = load
        self.seen_s = now
        self.delay_s = load.oldest_wait_s
        self.busy_runners = 0.0
        self.demand_runners = 0.0  # runners that full batches of what arrives would keep busy
        self.usual_demand_runners = 0.0  # the same, slower to change
        self.refused_share = 0.0
        self._mean_wait_s = 0.0
        self._row_s = load.row_s

    @property
    def utilisation(self) -> float:
        """Share of the runners' time that batches took, 0 to 1."""
        return min(1.0, self.busy_runners / self.load.runners) if self.load.runners else 0.0

    @property
    def backlog_s(self) -> float:
        """Time that the runners would take for what waits now."""
        return self.load.waiting_rows * self._row_s / max(1, self.load.runners)

    @property
    def predicted_delay_s(self) -> float:
        """Wait of a request that comes now, were none refused."""
        return max(self.delay_s, self.backlog_s) / max(0.05, 1.0 - self.refused_share)

    def observe(self, load: Load, now: float) -> bool:
        """A new reading. False if no time has passed since the last one."""
        seconds = now - self.seen_s
        if seconds <= 0.0:
            return False
        window = between(self.load, load, seconds)
        weight = 1.0 - exp(-seconds / SMOOTHING_S)
        if load.row_s > 0.0:
            self._row_s = load.row_s
        elif window.finished_rows and window.busy_s > 0.0:
            row_s = window.busy_s / window.finished_rows
            self._row_s += weight * (row_s - self._row_s) if self._row_s else row_s
        demand = window.arrived_rows / seconds * self._row_s
        refused = window.refused_rows / window.arrived_rows if window.arrived_rows else 0.0
        self._mean_wait_s += weight * (window.wait_s - self._mean_wait_s)
        self.delay_s = max(self._mean_wait_s, load.oldest_wait_s)
        self.busy_runners += weight * (window.busy_s / seconds - self.busy_runners)
        self.demand_runners += weight * (demand - self.demand_runners)
        self.usual_demand_runners += (1.0 - exp(-seconds / USUAL_S)) * (demand - self.usual_demand_runners)
        self.refused_share += weight * (refused - self.refused_share)
        self.load, self.seen_s = load, now
        return True
