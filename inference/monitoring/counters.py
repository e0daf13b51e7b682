"""What is counted of one model version, cheap enough for every request.

Counting costs a list index and an addition, since a client library's histograms cost as much as a small model's run.
Names, labels and text come when somebody asks, in `inference.monitoring.exposition`. Counters are written by one
thread, the loop's, and read by any: a reading may lag by the observation that is being made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from inference.model import ModelKey

# Seconds; from a tiny model's run to the longest wait that the settings allow by default.
LATENCY_BOUNDS_S = (
    *(50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
BATCH_BOUNDS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# What is read at the moment of the scrape. `VersionMetrics.watch` takes these names and no other.
GAUGES: dict[str, str] = {
    "glassai_queue_rows": "Rows that wait for a runner.",
    "glassai_queue_bytes": "Bytes of input that wait for a runner.",
    "glassai_requests_pending": "Accepted requests without an answer.",
    "glassai_runners": "Runners of the version.",
    "glassai_runners_idle": "Runners without work.",
    "glassai_runners_wanted": "Runners that the load asks for, within the bounds and the cores.",
    "glassai_runner_utilisation": "Share of the runners' time that batches took lately, 0 to 1.",
    "glassai_batch_rows_limit": "Rows at which a batch is capped.",
    "glassai_model_ready": "1 when the version can answer and its canary has lately, else 0.",
    "glassai_lines": "Production lines whose rows are held.",
    "glassai_background_requests": "Requests of jobs without an answer, each a batch of rows.",
}
# Read in the same way, of what only grows.
COUNTS: dict[str, str] = {
    "glassai_line_gaps": "Rows that came to a line after a gap of several rows.",
    "glassai_background_rows": "Rows of jobs that runners have run.",
    "glassai_background_busy_seconds": "Seconds of runners that rows of jobs took.",
}


class Histogram:
    """Counts by upper bound, and the sum of what was observed. `counts` has one entry more than `bounds`: the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One value; a value equal to a bound counts under it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class VersionMetrics:
    """The counters of one model version.

    `queue` and `total` are observed once an answered request, `run` and `batch_rows` once a session call.
    """

    __slots__ = ("batch_rows", "errors", "gauges", "key", "queue", "run", "scaling_changes", "total")

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self.queue = Histogram(LATENCY_BOUNDS_S)
        self.run = Histogram(LATENCY_BOUNDS_S)
        self.total = Histogram(LATENCY_BOUNDS_S)
        self.batch_rows = Histogram(BATCH_BOUNDS_ROWS)
        self.errors: dict[str, int] = {}
        self.scaling_changes: dict[tuple[str, str], int] = {}
        self.gauges: dict[str, Callable[[], float]] = {}

    def observe_batch(self, rows: int, run_s: float) -> None:
        """A session call of `rows` rows took `run_s`."""
        self.batch_rows.observe(rows)
        self.run.observe(run_s)

    def observe_answer(self, queue_s: float, total_s: float) -> None:
        """A request was answered: it waited `queue_s` for its runner, and took `total_s` from arrival to answer."""
        queue, total = self.queue, self.total  # `observe` of both, without its calls: this is once a request
        queue.counts[bisect_left(LATENCY_BOUNDS_S, queue_s)] += 1
        queue.total += queue_s
        total.counts[bisect_left(LATENCY_BOUNDS_S, total_s)] += 1
        total.total += total_s

    def count_error(self, reason: str) -> None:
        """A request ended without an answer; `reason` is an error's stable code."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def count_scaling(self, direction: Literal["up", "down"], cause: str, runners: int) -> None:
        """So many runners were started or given up; `cause` is that of the decision."""
        at = (direction, cause)
        self.scaling_changes[at] = self.scaling_changes.get(at, 0) + runners

    def watch(self, gauge: str, read: Callable[[], float]) -> None:
        """Show what `read` returns at each scrape; it is called from another thread and must only read."""
        assert gauge in GAUGES or gauge in COUNTS, f"{gauge} is not listed in GAUGES"
        self.gauges[gauge] = read


class CounterSource(Protocol):
    """Everything that a process has counted."""

    @property
    def versions(self) -> Mapping[ModelKey, VersionMetrics]:
        """The counters of each served version."""
        ...

    @property
    def responses(self) -> Mapping[tuple[str, str, int], int]:
        """HTTP answers by route, method and status."""
        ...

    @property
    def refusals(self) -> Mapping[tuple[str, str], int]:
        """HTTP error answers by route and reason."""
        ...

    @property
    def stream_connections(self) -> int:
        """WebSockets that are open."""
        ...
