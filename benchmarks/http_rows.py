"""Rows over HTTP: the server beside FastAPI, interleaved in one run, and the constant route as the limit."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bare import BareSession
from benchmarks.bench import BENCH, BUNDLED, PROFILES
from benchmarks.environments import peer_python
from benchmarks.load import Load, Target, load, need_wrk
from benchmarks.models import build_models
from benchmarks.payloads import open_inference_body, plain_body, stream_body, stream_window, window
from benchmarks.results import Bar, Comparison, Result, Side, result
from benchmarks.server import Server
from benchmarks.statistics import median, ratio

LEVELS = (1, 16, 64)
RATIO_MIN_AT_64 = 3.0
TOLERANCE = 1e-4  # float32 through JSON, and another thread's order of sums
WARM_UP_S = 2
KNEES_LIMIT_S = 30.0


@dataclass(frozen=True)
class Effort:
    """How long a comparison takes: pairs of `pair_s` for the ratio, runs of `latency_s` for the percentiles."""

    pairs: int = 15
    pair_s: int = 1
    latency_runs: int = 7
    latency_s: int = 5


QUICK = Effort(pairs=2, latency_runs=1, latency_s=1)


@dataclass(frozen=True)
class Question:
    """One kind of request, as ours and as the peer's, and what the right answer holds."""

    name: str
    models: Path
    path: str
    body: bytes
    peer_path: str
    peer_body: bytes
    number: Callable[[bytes], float]
    peer_number: Callable[[bytes], float]
    expected: float

    def right(self, answer: bytes) -> bool:
        """Whether our answer is the model's."""
        return bool(np.isclose(self.number(answer), self.expected, atol=TOLERANCE))

    def peer_right(self, answer: bytes) -> bool:
        """Whether the peer's answer is the model's."""
        return bool(np.isclose(self.peer_number(answer), self.expected, atol=TOLERANCE))


def bench_models() -> Path:
    """The benchmark's own models folder."""
    return build_models(BENCH / "models")


def bundled_lstm() -> Path:
    """The bundled sensor model."""
    return BUNDLED / "lstm_defect_predictor" / "1" / "model.onnx"


def open_inference() -> Question:
    """One window of 96 numbers as Open Inference Protocol JSON."""
    models = bench_models()
    bare = BareSession(models / "lstm" / "1" / "model.onnx")
    return Question(
        name="LSTM, Open Inference Protocol JSON",
        models=models,
        path="/v2/models/lstm/infer",
        body=open_inference_body(),
        peer_path="/predict",
        peer_body=plain_body(),
        number=lambda answer: json.loads(answer)["outputs"][0]["data"][0],
        peer_number=lambda answer: json.loads(answer)["output"][0][0],
        expected=float(bare.run(window()[None])[0, 0]),
    )


def stream() -> Question:
    """One row of three sensors, as the product's own API takes it, to the bundled model."""
    bare = BareSession(bundled_lstm())

    def number(answer: bytes) -> float:
        return json.loads(answer)["result"]["defect_probability"]

    return Question(
        name="three sensors, /api/inference/stream",
        models=BUNDLED,
        path="/api/inference/stream",
        body=stream_body(),
        peer_path="/api/inference/stream",
        peer_body=stream_body(),
        number=number,
        peer_number=number,
        expected=float(bare.run(stream_window())[0, 0]),
    )


def our_server(models: Path, core: int | None = 0) -> Server:
    """The server as `glassai serve` starts it, with a profile cache of its own."""
    command = [sys.executable, "-m", "inference.streaming_predictor", "--models", str(models), "--port", "PORT"]
    return Server("glassai", command, {"GLASSAI_RUNTIME_PROFILE_CACHE": str(profiles_of(models))}, core)


def fastapi_server(models: Path) -> Server:
    """The peer on the same core, in its own environment."""
    python = str(peer_python("fastapi"))
    app = ["-m", "uvicorn", "fastapi_app:app", "--app-dir", str(Path(__file__).parent / "peers")]
    quiet = ["--no-access-log", "--log-level", "warning"]
    environment = {"LSTM_ONNX": str(models / "lstm" / "1" / "model.onnx"), "DEFECTS_ONNX": str(bundled_lstm())}
    return Server("fastapi", [python, *app, *quiet, "--port", "PORT"], environment)


def compare(question: Question, connections: int, effort: Effort) -> Comparison:
    """Ours, the peer and ours again, round by round, so that whatever else the machine does meets all three."""
    need_wrk()
    peer_python("fastapi")
    with our_server(question.models) as ours:
        ours.wait(question.path, question.body, question.right)
        wait_for_knees(question.models)
        with fastapi_server(bench_models()) as peer:
            peer.wait(question.peer_path, question.peer_body, question.peer_right)
            return measure(question, ours, peer, connections, effort)


def profiles_of(models: Path) -> Path:
    """Where the server of this models folder keeps the batch sizes that it has measured."""
    return PROFILES / models.resolve().parent.name


def wait_for_knees(models: Path) -> None:
    """Wait until the server has measured the batch size of each model, which it does on idle runners after the load."""
    wanted = sum(1 for _ in models.glob("*/*/model.onnx"))
    end = time.monotonic() + KNEES_LIMIT_S
    while sum(1 for _ in profiles_of(models).glob("*.json")) < wanted and time.monotonic() < end:
        time.sleep(0.1)


def measure(question: Question, ours: Server, peer: Server, connections: int, effort: Effort) -> Comparison:
    """The pairs for the ratio, then the longer runs for the percentiles."""
    our_target = Target(ours.url + question.path, question.body)
    peer_target = Target(peer.url + question.peer_path, question.peer_body)
    constant_target = Target(ours.url + "/health/live")
    for target in (our_target, peer_target, constant_target):
        load(target, connections, WARM_UP_S)
    rounds = [
        [load(target, connections, effort.pair_s).requests_s for target in (our_target, peer_target, our_target)]
        for _ in range(effort.pairs)
    ]
    long = [
        [load(target, connections, effort.latency_s) for target in (our_target, peer_target, constant_target)]
        for _ in range(effort.latency_runs)
    ]
    first, theirs, again = zip(*rounds, strict=True)
    mine, others, constants = zip(*long, strict=True)
    return Comparison(
        question.name,
        connections,
        ours=side(first, mine),
        peer=side(theirs, others),
        constant=side([run.requests_s for run in constants], constants),
        ratio=ratio(first, theirs),
        control=ratio(first, again),
    )


def side(rates: tuple[float, ...] | list[float], runs: tuple[Load, ...]) -> Side:
    """Medians over the runs of one server."""
    return Side(median(rates), median([run.p50_ms for run in runs]), median([run.p99_ms for run in runs]))


def http_row(ask: Callable[[], Question], connections: int, row: str, effort: Effort) -> Result:
    """Measure one kind of request at one level."""
    comparison = compare(ask(), connections, effort)
    bars: tuple[Bar, ...] = ()
    if connections == LEVELS[-1]:
        met = comparison.ratio.median >= RATIO_MIN_AT_64
        what = f"{comparison.request}: requests/s against FastAPI, {connections} callers"
        bars = (Bar(what, f"{comparison.ratio}x", f">= {RATIO_MIN_AT_64:g}x", met),)
    return result(row, comparison, bars=bars)
