"""More requests than the server can answer: the ViT at twice its capacity, the LSTM at 1.5 and 2 times."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import BareWorker
from benchmarks.effort import Effort
from benchmarks.load import Target, load
from benchmarks.models import LSTM_SHAPE, VIT_SHAPE
from benchmarks.open_loop import OpenRun, open_loop, raw_request
from benchmarks.open_rows import capacity, generator_limit, sound, tails_of
from benchmarks.overload import BANDS, Overload, Variant, judge, memory_growth_mb, variants
from benchmarks.questions import Question, bench_models, lstm, model_file, vit
from benchmarks.results import Bar, Result, result
from benchmarks.server import Server
from benchmarks.under_test import our_server, wait_for_knees

IN_TIME_MIN = 0.999
MEMORY_MB_MAX = 8.0
UNLOADED_SHARE = 0.1
UNLOADED_S = 30.0
SAMPLE_S = 0.5
AGAIN_S_MAX = 200.0  # a longer run that is void is not repeated: a row ends within ten minutes


@dataclass(frozen=True)
class Scene:
    """What is overloaded, and its bars; without `goodput_min` it is only shown."""

    name: str
    question: Question
    file: Path
    shape: tuple[int, ...]
    connections: int
    factor: float
    goodput_min: float | None
    aim: str = ""
    critical: bool = False


@dataclass(frozen=True)
class Ground:
    """The server when it is not overloaded."""

    target: Target
    peak_s: float
    p50_ms: float
    p99_ms: float
    batch_ms: float


@dataclass(frozen=True)
class Seen:
    """One overload: its run, its figures and how the memory went."""

    run: OpenRun
    figures: Overload
    peak_s: float
    growth_mb: float
    accepted_min: int

    @property
    def accepted(self) -> str:
        """How many, and whether the time of a row was enough for those that it asks for."""
        short = f", fewer than the {self.accepted_min:,} asked for: the time allowed no more"
        return f"{self.figures.accepted:,} accepted{short if self.figures.accepted < self.accepted_min else ''}"


def overload_vit(row: str, effort: Effort) -> Result:
    """The ViT at twice its capacity."""
    scene = Scene("ViT at 2x", vit(), model_file("vit"), VIT_SHAPE, 16, 2.0, 0.95, "", critical=True)
    return overloaded(row, [scene], effort)


def overload_lstm(row: str, effort: Effort) -> Result:
    """The LSTM at 1.5 times its capacity, and at twice without a bar: refusing is work for the same core."""
    given = (lstm(), model_file("lstm"), LSTM_SHAPE, 64)
    scenes = [Scene("LSTM at 1.5x", *given, 1.5, 0.70, "85 %"), Scene("LSTM at 2x", *given, 2.0, None)]
    return overloaded(row, scenes, effort)


def overloaded(row: str, scenes: list[Scene], effort: Effort) -> Result:
    """All scenes, one after the other, on one server."""
    bars: list[Bar] = []
    facts: list[tuple[str, str]] = [("open loop: the generator keeps, requests/s", f"{generator_limit(1):,}")]
    runs: dict[str, OpenRun] = {}
    with our_server(bench_models()) as server:
        for scene in scenes:
            ground = stand(scene, server, effort)
            kinds = variants(ground.p50_ms)
            seen = meet(scene, ground, kinds, server, effort)
            facts += facts_of(scene, ground, seen)
            bars += bars_of(scene, ground, seen)
            runs[scene.name] = seen.run
    return result(row, facts=tuple(facts), bars=tuple(bars), tails=tails_of(runs))


def stand(scene: Scene, server: Server, effort: Effort) -> Ground:
    """Peak, unloaded latency and batch time."""
    target = scene.question.wait(server)
    knee = wait_for_knees(server)[scene.file.parent.parent.name]
    with BareWorker(scene.file, scene.shape) as bare:
        batch_ms = knee / bare.rows_s(knee, effort.pair_s) * 1000
    load(target, scene.connections, effort.warm_up_s)
    peak_s = capacity(target, scene.connections, effort)
    seconds = UNLOADED_S if effort.weigh else 2.0
    idle = sound(target, UNLOADED_SHARE * peak_s, seconds, seed=1)
    return Ground(target, peak_s, idle.quantile_ms(0.5), idle.quantile_ms(0.99), batch_ms)


def meet(scene: Scene, ground: Ground, kinds: list[Variant], server: Server, effort: Effort) -> Seen:
    """The overload itself, long enough for the accepted requests of the bar; once more if the run is void."""
    seconds: float = effort.shown_s
    if scene.goodput_min is not None:
        seconds = min(max(effort.overload_s, 1.2 * effort.accepted_min / ground.peak_s), effort.overload_limit_s)
    requests = [
        (raw_request(ground.target, X_Priority=kind.band, X_Timeout_Ms=f"{kind.timeout_ms:g}"), kind.share)
        for kind in kinds
    ]
    for attempt in range(2 if seconds <= AGAIN_S_MAX else 1):
        with memory_of(server) as samples:
            run = open_loop(ground.target, scene.factor * ground.peak_s, seconds, 7 + attempt, requests)
        if not run.lag:
            break
    after = capacity(ground.target, scene.connections, effort)
    return Seen(run, judge(run, kinds), (ground.peak_s + after) / 2, memory_growth_mb(samples), effort.accepted_min)


@contextmanager
def memory_of(server: Server) -> Generator[list[tuple[float, float]]]:
    """Samples (s, MB) of the server's resident memory, taken until the block ends."""
    samples = [(time.monotonic(), server.resident_mb())]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            samples.append((time.monotonic(), server.resident_mb()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()
        samples.append((time.monotonic(), server.resident_mb()))


def facts_of(scene: Scene, ground: Ground, seen: Seen) -> list[tuple[str, str]]:
    """What stands beside the bars."""
    f = seen.figures
    offered = f"{f.requests / seen.run.seconds:,.0f} requests/s for {seen.run.seconds:.0f} s, peak {seen.peak_s:,.0f}"
    bands = ", ".join(f"{name} {f.accepted_share[name]:.0%} / {f.p99_ms[name]:.1f} ms" for name, _ in BANDS)
    ends = f"{f.in_time:,} in time, {f.late_status} given up at their deadline, {f.failed} failed"
    return [
        (f"{scene.name}: offered", offered),
        (
            f"{scene.name}: unloaded p50 / p99, a batch, ms",
            f"{ground.p50_ms:.2f} / {ground.p99_ms:.2f}, {ground.batch_ms:.2f}",
        ),
        (f"{scene.name}: accepted", f"{f.accepted:,} of {f.requests:,}: {ends}"),
        (f"{scene.name}: goodput against peak", f"{f.goodput_s / seen.peak_s:.1%}"),
        (f"{scene.name}: accepted / p99 of each band", bands),
        (f"{scene.name}: a refusal takes, p99, ms", f"{f.refused_p99_ms:.1f}"),
        (f"{scene.name}: memory from the first to the last minute, MB", f"{seen.growth_mb:+.1f}"),
    ]


def bars_of(scene: Scene, ground: Ground, seen: Seen) -> list[Bar]:
    """The bars; of a void run none is met."""
    if scene.goodput_min is None:
        return []
    f = seen.figures
    share, from_send = f.in_time_share, f.in_time_from_send / max(f.accepted, 1)
    goodput = f.goodput_s / seen.peak_s
    aim = f", aim {scene.aim}" if scene.aim else ""
    rows = [
        (
            "accepted within their deadline",
            f"{share:.3%}",
            f">= {IN_TIME_MIN:.1%}",
            share >= IN_TIME_MIN,
            f"{seen.accepted}; {from_send:.3%} counted from when they were really sent",
        ),
        (
            "goodput against peak",
            f"{goodput:.1%}",
            f">= {scene.goodput_min:.0%}{aim}",
            goodput >= scene.goodput_min,
            f"{f.goodput_s:,.0f} of {seen.peak_s:,.0f}/s",
        ),
        (
            "memory from the first to the last minute, MB",
            f"{seen.growth_mb:+.1f}",
            f"<= {MEMORY_MB_MAX:g}",
            seen.growth_mb <= MEMORY_MB_MAX,
            "",
        ),
    ]
    if scene.critical:
        limit_ms = ground.p99_ms + 2 * ground.batch_ms
        rows.insert(
            2,
            (
                "critical band's p99, ms",
                f"{f.critical_p99_ms:.1f}",
                f"<= {limit_ms:.1f}",
                f.critical_p99_ms <= limit_ms,
                f"unloaded {ground.p99_ms:.1f} + 2 x {ground.batch_ms:.1f}",
            ),
        )
    void = seen.run.lag
    return [
        Bar(f"{scene.name}: {what}", f"{figure} (void: {void})" if void else figure, limit, met and not void, beside)
        for what, figure, limit, met, beside in rows
    ]
