"""`Predictor.predict` beside bare `session.run` in one process: `python -m benchmarks.in_process PAIRS SECONDS`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bare import BareSession
from benchmarks.bench import BUNDLED
from benchmarks.payloads import SENSOR_ROW
from inference.predictor import Predictor

BLOCK_CALLS = 64  # calls between two looks at the clock
SECOND = "2025-12-05T10:00:{:02}Z"


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """Mean time of one call over `seconds`."""
    calls, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not calls:
        for _ in range(BLOCK_CALLS):
            call()
        calls += BLOCK_CALLS
    return passed / calls * 1e6


def main(pairs: str, seconds: str) -> None:
    """Print the times of each round as JSON: bare, predict, bare again, predict with dict rows; microseconds a call."""
    folder = BUNDLED / "lstm_defect_predictor"
    with np.load(folder / "1" / "example.npz") as example:
        window = example["rows"][0]
    batch = window[None]
    rows = [{"timestamp": SECOND.format(i), **SENSOR_ROW} for i in range(len(window))]
    bare, predictor = BareSession(folder / "1" / "model.onnx"), Predictor(folder)
    forms: dict[str, Callable[[], object]] = {
        "bare": lambda: bare.session.run(None, {bare.input_name: batch}),
        "predict": lambda: predictor.predict(window),
        "bare_again": lambda: bare.session.run(None, {bare.input_name: batch}),
        "dict_rows": lambda: predictor.predict(rows),
    }
    for call in forms.values():
        microseconds(call, 0.2)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(int(pairs)):
        for name, call in forms.items():
            times[name].append(microseconds(call, float(seconds)))
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
