"""Running an exported graph the way the cards time it: ONNX Runtime, one thread."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by onnxruntime when it is imported

import onnxruntime

TIMED_RUNS = 2000
TIMED_S_MAX = 1.0
ROUNDS, PAUSE_S = 9, 1.0  # a shared machine changes its pace by the second


class GraphSession:
    """One input, one output, one thread."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        started = time.perf_counter()
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.load_s = time.perf_counter() - started
        self.input_name = self._session.get_inputs()[0].name
        self.output_name = self._session.get_outputs()[0].name

    def run(self, rows: NDArray[np.generic], batch: int = 256) -> NDArray[np.float32]:
        """Answers of all rows, in pieces of `batch`."""
        pieces = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        answers: list[Any] = [self._session.run([self.output_name], {self.input_name: piece})[0] for piece in pieces]
        return np.concatenate(answers)

    def time_one_s(self, row: NDArray[np.generic]) -> float:
        """Median seconds of a call with one row ([1, ...]), after a warm-up."""
        feed = {self.input_name: row}
        for _ in range(50):
            self._session.run([self.output_name], feed)
        spent: list[float] = []
        deadline = time.perf_counter() + TIMED_S_MAX
        while len(spent) < TIMED_RUNS and time.perf_counter() < deadline:
            started = time.perf_counter()
            self._session.run([self.output_name], feed)
            spent.append(time.perf_counter() - started)
        return float(np.median(spent))


@dataclass(frozen=True)
class Cost:
    """What a packaged graph costs: file size, time to load, time of one row, on the named processor.

    `row_s` is the median round, `row_s_range` the fastest and the slowest.
    """

    parameters: int
    file_bytes: int
    load_s: float
    row_s: float
    row_s_range: tuple[float, float]
    processor: str


def measure_cost(graph: bytes, row: NDArray[np.generic], parameters: int) -> Cost:
    """Load and time the graph with one thread: the median of five loads, nine rounds of single rows."""
    sessions = [GraphSession(graph) for _ in range(5)]
    load_s = float(np.median([session.load_s for session in sessions]))
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(sessions[-1].time_one_s(row))
        time.sleep(PAUSE_S)
    spread = (min(rounds), max(rounds))
    return Cost(parameters, len(graph), load_s, float(np.median(rounds)), spread, _processor())


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
