"""`Predictor` beside bare `session.run` in one process.

`python -m benchmarks.in_process MODEL_FOLDER PAIRS SECONDS`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bare import BareSession
from benchmarks.bench import BUNDLED
from benchmarks.payloads import SENSOR_ROW, window
from inference.predictor import Predictor
from inference.settings import RuntimeSettings

LOOK_S = 0.005  # time between two looks at the clock
MANY = 1024
RUNTIME = RuntimeSettings(profile_cache="")  # the batch size is measured in the warm-up
SECOND = "2025-12-05T10:00:{:02}Z"


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """Mean time of one call over `seconds`."""
    started = time.perf_counter()
    call()
    calls, together = 1, max(1, int(LOOK_S / (time.perf_counter() - started)))
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(together):
            call()
        calls += together
    return passed / calls * 1e6


def own_model(folder: Path) -> dict[str, Callable[[], object]]:
    """The benchmark's LSTM: one float32 array, and 1024 of them."""
    bare, predictor = BareSession(folder / "1" / "model.onnx"), Predictor(folder, RUNTIME)
    one = window()[None]
    many = np.random.default_rng(0).uniform(0, 1, (MANY, *one.shape[1:])).astype(np.float32)
    name = bare.input_name
    return {
        "bare": lambda: bare.session.run(None, {name: one}),
        "predict": lambda: predictor.predict({name: one}),
        "bare_again": lambda: bare.session.run(None, {name: one}),
        "bare_many": lambda: bare.session.run(None, {name: many}),
        "predict_many": lambda: predictor.predict_many({name: many}),
        "bare_many_again": lambda: bare.session.run(None, {name: many}),
    }


def bundled_model() -> dict[str, Callable[[], object]]:
    """The bundled LSTM: a window as an array, and as 32 dict rows."""
    folder = BUNDLED / "lstm_defect_predictor"
    bare, predictor = BareSession(folder / "1" / "model.onnx"), Predictor(folder, RUNTIME)
    with np.load(folder / "1" / "example.npz") as example:
        rows = example["rows"][0]
    batch = rows[None]
    dicts = [{"timestamp": SECOND.format(i), **SENSOR_ROW} for i in range(len(rows))]
    return {
        "bundled_bare": lambda: bare.session.run(None, {bare.input_name: batch}),
        "bundled_predict": lambda: predictor.predict(rows),
        "bundled_dicts": lambda: predictor.predict(dicts),
    }


def main(folder: str, pairs: str, seconds: str) -> None:
    """Print the times of each round as JSON, microseconds a call by form."""
    forms = {**own_model(Path(folder)), **bundled_model()}
    for call in forms.values():
        microseconds(call, 0.1)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(int(pairs)):
        for name, call in forms.items():
            times[name].append(microseconds(call, float(seconds)))
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
