"""Bare `session.run`: the limit that no server over ONNX Runtime can pass. `python -m benchmarks.bare` measures it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

BATCHES = (1, 8, 32)
BLOCK_CALLS = 16  # calls between two looks at the clock


class BareSession:
    """A session of one thread over a model with one input and one output."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_name: str = self.session.get_inputs()[0].name

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The only output for the only input."""
        return self.session.run(None, {self.input_name: inputs})[0]  # pyrefly: ignore[bad-return] - only tensors here


def rows_per_second(path: Path, shape: tuple[int, ...], rows: int, seconds: float) -> float:
    """Rows/s of one session in a loop, after a tenth of that time to warm up."""
    session = BareSession(path)
    inputs = np.random.default_rng(0).uniform(0, 1, (rows, *shape)).astype(np.float32)
    for limit_s in (seconds / 10, seconds):
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < limit_s:
            for _ in range(BLOCK_CALLS):
                session.run(inputs)
            calls += BLOCK_CALLS
        rate = calls * rows / (time.perf_counter() - started)
    return rate


def main(path: str, shape: str, seconds: str) -> None:
    """Print rows/s of each batch size as JSON. Arguments: model file, shape of a row as 32x3, seconds a size."""
    sizes = tuple(int(size) for size in shape.split("x"))
    print(json.dumps({rows: rows_per_second(Path(path), sizes, rows, float(seconds)) for rows in BATCHES}))


if __name__ == "__main__":
    main(*sys.argv[1:])
