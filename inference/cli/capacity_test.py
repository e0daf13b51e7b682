"""The capacity of a running server: runs of an open loop at one rate after the other, and what they add up to."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import msgspec

from inference.cli.bench_request import BenchImpossible, BenchRequest
from inference.cli.capacity_search import CapacitySearch
from inference.cli.load_figures import LATE_S, LoadFigures, figures, keeps
from inference.cli.load_generator import run_load
from inference.cli.load_schedule import arrivals
from inference.cli.svg_plot import Curve, latency_plot, page

UNLOADED_REQUESTS = 50
FIRST_SHARE = 0.25  # of what one caller alone could ask: below capacity on any machine
REQUESTS_MIN = 100  # of a run, for a p99 to mean something; a run is made longer for them, within bounds
LONGER_MAX = 10.0
LATE_SHARE_OF_GOAL = 0.1  # a send that is late by less hardly moves a p99 that is near the goal
HEADER = ("rate/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "refused", "failed", "goal")


class BenchStep(msgspec.Struct, frozen=True):
    """One run at one rate. `void` says why it means nothing, `crowded` that connections ran out; or they are empty."""

    rate_s: float
    answered_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refused: int
    failed: int
    kept: bool
    void: str = ""
    crowded: str = ""


class BenchReport(msgspec.Struct, frozen=True):
    """The whole test; `capacity_s` is 0 if no rate kept the goal.

    `at_least` says why the server may take more, or is empty: it broke the goal at the next rate.
    """

    url: str
    model: str
    request: str
    pattern: str
    goal_p99_ms: float
    unloaded_p50_ms: float
    capacity_s: float
    at_least: str
    steps: tuple[BenchStep, ...]


@dataclass(frozen=True)
class Bench:
    """What is measured, and how."""

    host: str
    port: int
    model: str
    request: BenchRequest
    pattern: str
    goal_ms: float
    seconds: float
    connections: int
    rate_max_s: float
    seed: int

    def unloaded_ms(self) -> float:
        """Median time of one answer when nobody else asks."""
        due_s = array("d", bytes(8 * UNLOADED_REQUESTS))
        run = run_load(self.host, self.port, [self.request.raw(self.host, self.port)], due_s, connections=1)
        times = run.service_times()
        if not times:
            raise BenchImpossible("The server answered no request with status 200.")
        return median(times) * 1000

    def steps(self, search: CapacitySearch) -> Iterator[BenchStep]:
        """Run after run, as the search asks for them."""
        raw = [self.request.raw(self.host, self.port)]
        number = 0
        while (rate_s := search.next_rate()) is not None:
            number += 1
            seconds = min(max(self.seconds, REQUESTS_MIN / rate_s), LONGER_MAX * self.seconds)
            random = Random(self.seed + number)  # noqa: S311 - arrival times that can be repeated
            run = run_load(self.host, self.port, raw, arrivals(self.pattern, rate_s, seconds, random), self.connections)
            seen = figures(run, seconds, max(LATE_S, LATE_SHARE_OF_GOAL * self.goal_ms / 1000))
            kept = seen.requests > 0 and not seen.lag and keeps(run, self.goal_ms / 1000)
            search.saw(kept=kept)
            yield step_of(rate_s, seen, seconds, kept=kept)


def step_of(rate_s: float, seen: LoadFigures, seconds: float, *, kept: bool) -> BenchStep:
    """The figures as the report has them."""
    return BenchStep(
        rate_s,
        seen.answered / seconds,
        seen.p50_ms,
        seen.p99_ms,
        seen.p999_ms,
        seen.refused,
        seen.failed,
        kept,
        seen.lag,
        seen.crowded,
    )


def report_of(bench: Bench, unloaded_ms: float, search: CapacitySearch, steps: tuple[BenchStep, ...]) -> BenchReport:
    """What the steps add up to."""
    at_least = ""
    if search.broken_s is None:
        at_least = "it is the highest rate that was tried"
    elif any(step.void for step in steps if step.rate_s == search.broken_s):
        at_least = "beyond it this load generator could not keep its own schedule"
    return BenchReport(
        f"http://{bench.host}:{bench.port}",
        bench.model,
        bench.request.words,
        bench.pattern,
        bench.goal_ms,
        unloaded_ms,
        search.kept_s,
        at_least,
        steps,
    )


def row(step: BenchStep) -> str:
    """One line of the table."""
    goal = "void: " + step.void if step.void else "kept" if step.kept else "broken"
    cells = (
        f"{step.rate_s:,.0f}",
        f"{step.answered_s:,.0f}",
        *(f"{ms:,.2f}" for ms in (step.p50_ms, step.p99_ms, step.p999_ms)),
        f"{step.refused:,}",
        f"{step.failed:,}",
    )
    return "  ".join([*(cell.rjust(10) for cell in cells), "; ".join(filter(None, (goal, step.crowded)))])


def verdict(report: BenchReport) -> str:
    """The capacity in a sentence."""
    goal = f"p99 <= {report.goal_p99_ms:g} ms, {report.pattern} arrivals"
    if not report.capacity_s:
        return f"No rate kept the goal ({goal}): the lowest one tried was {min(s.rate_s for s in report.steps):,.1f}/s."
    if report.at_least:
        return f"Capacity at {goal}: at least {report.capacity_s:,.0f} requests/s; {report.at_least}."
    return f"Capacity at {goal}: {report.capacity_s:,.0f} requests/s."


def plot(report: BenchReport, path: Path) -> None:
    """Write the picture: SVG, or HTML with the table under it."""
    title = f"{report.model} at {report.url}, {report.pattern} arrivals"
    sound = [step for step in report.steps if not step.void]
    curves = [
        Curve("p50", tuple((step.rate_s, step.p50_ms) for step in sound)),
        Curve("p99", tuple((step.rate_s, step.p99_ms) for step in sound)),
        Curve("p99.9", tuple((step.rate_s, step.p999_ms) for step in sound)),
    ]
    svg = latency_plot(title, curves, report.goal_p99_ms, report.capacity_s)
    if path.suffix == ".svg":
        path.write_text(svg, encoding="utf-8")
    else:
        table = "\n".join([head(), *map(row, report.steps), "", verdict(report)])
        path.write_text(page(title, svg, table), encoding="utf-8")


def head() -> str:
    """The first line of the table."""
    return "  ".join([*(name.rjust(10) for name in HEADER[:-1]), HEADER[-1]])


def measure(it: Bench, tell: Callable[[str], None]) -> BenchReport:
    """The unloaded latency and all steps; each line of the table is told as it comes."""
    unloaded_ms = it.unloaded_ms()
    search = CapacitySearch(max(FIRST_SHARE * 1000 / unloaded_ms, 1.0), it.rate_max_s)
    tell(f"http://{it.host}:{it.port}, {it.model}: {it.request.words}")
    tell(f"Nobody else asking: p50 {unloaded_ms:.2f} ms. {it.pattern} arrivals, {it.seconds:g} s a run.")
    tell(head())
    steps = []
    for step in it.steps(search):
        steps.append(step)
        tell(row(step))
        if step.void and search.broken_s == step.rate_s and not search.kept_s:
            raise BenchImpossible(
                f"This load generator cannot keep {step.rate_s:,.0f} requests/s here: {step.void}. "
                "Run it on a machine, or on a core, that has nothing else to do."
            )
    report = report_of(it, unloaded_ms, search, tuple(steps))
    tell(verdict(report))
    return report
