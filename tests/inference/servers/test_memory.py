"""Tens of thousands of requests leave nothing behind: once a server is warm, more of them need no more memory.

50,000 requests with `make test`, a million with `make test-all`; `make bench ROW=rss` measures the second million.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.process_group import until
from tests.inference.raw_http import INFER, STREAM, connect, infer_body, read_answers, wire
from tests.inference.servers.test_inference_api import WINDOW_TOML, call, row

CONNECTIONS = 4
PIPELINE = 100
LINES = 64
GROWTH_BYTES_MAX = 2_000_000


def pipeline(number: int) -> bytes:
    """What callers send, good and bad: tensors, rows of lines, no JSON, an unknown model, and who is in a hurry."""
    kinds = [
        wire(INFER, infer_body(float(number))),
        wire(INFER, infer_body(1.0, 2.0, 3.0), "x-priority: low"),
        wire(STREAM, json.dumps(call("window", row(0.5), stream_id=f"line {number % LINES}")).encode()),
        wire(INFER, b"{"),
        wire(STREAM, json.dumps(call("windw", row(0.5))).encode()),
        wire(INFER, infer_body(1.0), "x-timeout-ms: 0.0001"),
    ]
    weights = (50, 20, 24, 2, 2, 2)
    return b"".join(kind * weight for kind, weight in zip(kinds, weights, strict=True))


def ask(port: int, pipelines: int) -> Counter[int]:
    """So many pipelines over one connection; the statuses of the answers."""
    seen: Counter[int] = Counter()
    with connect(port) as raw:
        for number in range(pipelines):
            raw.sendall(pipeline(number))
            seen.update(answer.status for answer in read_answers(raw, PIPELINE))
    return seen


def only_listens(process: psutil.Process) -> bool:
    return all(found.status == psutil.CONN_LISTEN for found in process.net_connections("tcp"))


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_the_second_half_of_many_requests_needs_no_more_memory(tmp_path: Path, count: int) -> None:
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "window", 1, tiny_models.window_model, WINDOW_TOML)
    pipelines = count // 2 // CONNECTIONS // PIPELINE
    with LiveServer(tmp_path, ["--required", "adder", "--required", "window"]) as server:
        process = psutil.Process(server.process.pid)
        held: list[tuple[int, int]] = []  # bytes, open files
        seen: Counter[int] = Counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for _ in range(2):
                for statuses in pool.map(ask, [server.port] * CONNECTIONS, [pipelines] * CONNECTIONS):
                    seen += statuses
                until("a connection is left open", lambda: only_listens(process))
                held.append((process.memory_info().rss, process.num_fds()))
        assert seen.total() == 2 * CONNECTIONS * pipelines * PIPELINE
        assert seen.keys() <= {200, 400, 404, 503, 504}  # who is in a hurry is refused at once, or is too late already
        assert seen[200] == 0.94 * seen.total()
        (first_bytes, first_files), (second_bytes, second_files) = held
        assert second_bytes - first_bytes <= GROWTH_BYTES_MAX
        assert second_files <= first_files
        assert "Traceback" not in server.output
