"""Bare `session.run`: the limit that no server over ONNX Runtime can pass.

`python -m benchmarks.bare MODEL SHAPE` is a worker: it takes lines `ROWS SECONDS` and prints the rows/s of each block.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import ROOT, SERVER_CORE, one_thread, pinned

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LOOK_S = 0.005  # time between two looks at the clock


class BareSession:
    """A session of one thread over a model with one input and one output."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        first = self.session.get_inputs()[0]
        self.input_name: str = first.name
        self.dtype = np.uint8 if first.type == "tensor(uint8)" else np.float32

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The first output for the only input."""
        return self.session.run(None, {self.input_name: inputs})[0]  # pyrefly: ignore[bad-return] - only tensors here

    def rows_s(self, inputs: NDArray[Any], seconds: float) -> float:
        """Rows/s of calls one after the other."""
        self.run(inputs)
        started = time.perf_counter()
        self.run(inputs)
        calls, together = 1, max(1, int(LOOK_S / (time.perf_counter() - started)))
        while (passed := time.perf_counter() - started) < seconds:
            for _ in range(together):
                self.run(inputs)
            calls += together
        return calls * len(inputs) / passed


class BareWorker:
    """A process on the server's core that runs blocks of `session.run` when asked, and else nothing."""

    def __init__(self, model: Path, shape: tuple[int, ...]) -> None:
        sizes = "x".join(map(str, shape))
        command = [*pinned(SERVER_CORE), sys.executable, "-m", "benchmarks.bare", str(model), sizes]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=one_thread(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> BareWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def rows_s(self, rows: int, seconds: float) -> float:
        """Rows/s at this batch size."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{rows} {seconds}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the worker of bare session.run has ended")
        return float(said)

    def best_batch(self, seconds: float, sizes: tuple[int, ...] = BATCHES) -> int:
        """The batch size with the most rows/s."""
        return max(sizes, key=lambda rows: self.rows_s(rows, seconds))


def main(path: str, shape: str) -> None:
    """Answer blocks until the input ends."""
    session = BareSession(Path(path))
    random = np.random.default_rng(0)
    top = 255 if session.dtype is np.uint8 else 1
    sizes = tuple(int(size) for size in shape.split("x"))
    for line in sys.stdin:
        rows, seconds = line.split()
        inputs = random.uniform(0, top, (int(rows), *sizes)).astype(session.dtype)
        print(session.rows_s(inputs, float(seconds)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
