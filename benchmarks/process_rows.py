"""Rows about one process: the in-process door, start, memory and installed size."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.bench import BUNDLED, ROOT, SERVER_CORE, one_thread, pinned
from benchmarks.effort import Effort
from benchmarks.environments import core_megabytes
from benchmarks.questions import bench_models, bundled_vit, stream
from benchmarks.results import Bar, Result, at_most, result
from benchmarks.statistics import median, ratio
from benchmarks.under_test import our_server

START_S_MAX = 1.0
RESIDENT_MB_MAX = 120.0
INSTALLED_MB_MAX = 250.0
IN_PROCESS_FACTOR_MAX = 1.15
IN_PROCESS_EXTRA_US_MAX = 10.0
MANY_FACTOR_MAX = 0.9


def pinned_json(*arguments: str) -> dict[str, list[float]]:
    """What a module of the benchmark prints when it runs alone on the server's core."""
    command = [*pinned(SERVER_CORE), sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=one_thread(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    return json.loads(done.stdout)


def in_process(row: str, effort: Effort) -> Result:
    """One float32 window [1, 32, 3] and 1024 of them through the in-process door, beside bare `session.run`."""
    times = pinned_json("benchmarks.in_process", str(bench_models() / "lstm"), str(effort.pairs), str(effort.pair_s))
    bare, predict = times["bare"], times["predict"]
    extra_us = median([p - IN_PROCESS_FACTOR_MAX * b for p, b in zip(predict, bare, strict=True)])
    many = ratio(times["predict_many"], times["bare_many"])
    facts = (
        ("in process: bundled LSTM, bare session.run, us", f"{median(times['bundled_bare']):.1f}"),
        (
            "in process: bundled LSTM, predict of one float32 array [32, 3], us",
            f"{median(times['bundled_predict']):.1f}",
        ),
        ("in process: bundled LSTM, predict of 32 dict rows, us", f"{median(times['bundled_dicts']):.1f}"),
    )
    one = f"{median(predict):.1f} against {median(bare):.1f} us, {ratio(predict, bare)}x; "
    one += f"control {ratio(bare, times['bare_again'])}"
    lot = f"{median(times['predict_many']) / 1000:.2f} against {median(times['bare_many']) / 1000:.2f} ms; "
    lot += f"control {ratio(times['bare_many'], times['bare_many_again'])}"
    bars = (
        Bar(
            "in process, batch 1: predict less 1.15x bare session.run, us",
            f"{extra_us:.1f}",
            f"<= {IN_PROCESS_EXTRA_US_MAX:g}",
            extra_us <= IN_PROCESS_EXTRA_US_MAX,
            one,
        ),
        at_most("in process, batch 1024: predict_many against bare session.run", many, MANY_FACTOR_MAX, "", lot),
    )
    return result(row, facts=facts, bars=bars)


def start(row: str, effort: Effort) -> Result:
    """From the start of the process to right predictions of both bundled models, nothing pinned, files in the cache."""
    first_asked, second_asked = stream(), bundled_vit()
    first_s: list[float] = []
    both_s: list[float] = []
    resident_mb: list[float] = []
    for number in range(effort.starts + 1):
        with our_server(BUNDLED, core=None) as server:
            first = server.wait(first_asked.path, first_asked.body, first_asked.right)
            both = server.wait(second_asked.path, second_asked.body, second_asked.right, second_asked.headers)
            resident = server.resident_mb()
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
    """Installed size of the core; `effort` is not asked, since it cannot be weighed in part."""
    megabytes = core_megabytes()
    bar = Bar(
        "installed size without extras and without pip, MB",
        f"{megabytes:.0f}",
        f"<= {INSTALLED_MB_MAX:.0f}",
        megabytes <= INSTALLED_MB_MAX,
    )
    return result(row, bars=(bar,))
