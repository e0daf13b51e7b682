"""Rows about one process: the limit of `session.run`, the in-process door, start, memory and installed size."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

from benchmarks.bare import BareSession
from benchmarks.bench import BUNDLED, ROOT, SERVER_CORE, one_thread, pinned
from benchmarks.environments import core_megabytes
from benchmarks.http_rows import Effort, bench_models, our_server, stream
from benchmarks.models import LSTM_SHAPE
from benchmarks.results import Bar, Result, result
from benchmarks.statistics import median, ratio

START_S_MAX = 1.0
RESIDENT_MB_MAX = 120.0
INSTALLED_MB_MAX = 250.0
IN_PROCESS_FACTOR_MAX = 1.15
IN_PROCESS_EXTRA_US_MAX = 10.0
STARTS = 9


def pinned_json(*arguments: str) -> dict[str, list[float]]:
    """What a module of the benchmark prints when it runs alone on the server's core."""
    command = [*pinned(SERVER_CORE), sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=one_thread(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    return json.loads(done.stdout)


def session_run(row: str, effort: Effort) -> Result:
    """Rows/s of bare `session.run` on the server's core."""
    path = bench_models() / "lstm" / "1" / "model.onnx"
    shape = "x".join(map(str, LSTM_SHAPE))
    rates = pinned_json("benchmarks.bare", str(path), shape, str(effort.pair_s * 3))
    facts = tuple((f"bare session.run, LSTM, batch {rows}, rows/s", f"{rate:,.0f}") for rows, rate in rates.items())
    return result(row, facts=facts)


def in_process(row: str, effort: Effort) -> Result:
    """One float32 window [32, 3] through `predict`, beside bare `session.run` at batch 1."""
    times = pinned_json("benchmarks.in_process", str(effort.pairs), str(effort.pair_s))
    bare, predict = times["bare"], times["predict"]
    over = ratio(predict, bare)
    extra_us = median([p - IN_PROCESS_FACTOR_MAX * b for p, b in zip(predict, bare, strict=True)])
    facts = (
        ("bare session.run, bundled LSTM, batch 1, us", f"{median(bare):.1f}"),
        ("predict of one float32 array [32, 3], us", f"{median(predict):.1f}"),
        ("predict against bare session.run", f"{over}x"),
        ("control: bare against bare", f"{ratio(times['bare'], times['bare_again'])}x"),
        ("predict of 32 dict rows, us", f"{median(times['dict_rows']):.1f}"),
    )
    bar = Bar(
        "in process: predict less 1.15x bare session.run, us",
        f"{extra_us:.1f}",
        f"<= {IN_PROCESS_EXTRA_US_MAX:g}",
        extra_us <= IN_PROCESS_EXTRA_US_MAX,
    )
    return result(row, facts=facts, bars=(bar,))


def start(row: str, effort: Effort) -> Result:
    """From the start of the process to right predictions of both bundled models, nothing pinned, files in the cache."""
    question = stream()
    folder = BUNDLED / "vit_defect_detector" / "1"
    with np.load(folder / "example.npz") as example:
        pixels = example["pixels"][:1]
    expected = BareSession(folder / "model.onnx").run(pixels)
    tensor = {"name": "pixels", "shape": list(pixels.shape), "datatype": "UINT8"}
    header = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": pixels.nbytes}}]}).encode()

    def right_probabilities(answer: bytes) -> bool:
        return np.allclose(json.loads(answer)["outputs"][0]["data"], expected.ravel(), atol=1e-4)

    first_s: list[float] = []
    both_s: list[float] = []
    resident_mb: list[float] = []
    for number in range(min(STARTS, effort.pairs) + 1):
        with our_server(BUNDLED, core=None) as server:
            first = server.wait(question.path, question.body, question.right)
            both = server.wait(
                "/v2/models/vit_defect_detector/infer",
                header + pixels.tobytes(),
                right_probabilities,
                {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"},
            )
            resident = server.resident_mb()
            time.sleep(0.5)
        if number:  # the first start fills the page cache
            first_s.append(first)
            both_s.append(both)
            resident_mb.append(resident)
    facts = (
        ("start to the first right prediction (LSTM), s", f"{median(first_s):.2f}"),
        ("start to right predictions of both models, worst, s", f"{max(both_s):.2f}"),
    )
    bars = (
        Bar(
            "process start to right predictions of both bundled models, s",
            f"{median(both_s):.2f}",
            f"<= {START_S_MAX:.1f}",
            median(both_s) <= START_S_MAX,
        ),
        Bar(
            "resident memory then, MB",
            f"{median(resident_mb):.0f}",
            f"<= {RESIDENT_MB_MAX:.0f}",
            median(resident_mb) <= RESIDENT_MB_MAX,
        ),
    )
    return result(row, facts=facts, bars=bars)


def size(row: str, effort: Effort) -> Result:
    """Installed size of the core."""
    megabytes = core_megabytes()
    bar = Bar(
        "installed size without extras and without pip, MB",
        f"{megabytes:.0f}",
        f"<= {INSTALLED_MB_MAX:.0f}",
        megabytes <= INSTALLED_MB_MAX,
    )
    return result(row, bars=(bar,))
