"""Clocks that jump, and a machine that stands still: no caller is blamed, nobody is late, no line is lost."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect as web_socket

from inference.servers.connections import LOOK_INTERVAL_S
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.process_group import children, group, metrics, total, until
from tests.inference.raw_http import INFER, STREAM, connect, infer_body, read_answers, wire
from tests.inference.servers.test_inference_api import WINDOW_TOML, call, row

# Found by the server's own interpreters before anything else, so that all of the server reads this wall clock.
JUMPING_CLOCK = """
import itertools, pathlib, time
real_s, real_ns = time.time, time.time_ns
jumps_s = itertools.cycle([0, 86_400, -86_400, 3, -3, 10**9, -1])
seen = pathlib.Path(__file__).with_name("seen").open("a", buffering=1)
def jumped_s():
    seen.write("x")
    return real_s() + next(jumps_s)
time.time = jumped_s
time.time_ns = lambda: int(jumped_s() * 1e9)
"""
LIMIT_S = 2.5  # of headers, and of a body that does not move


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    tiny_models.package(folder, "window", 1, tiny_models.window_model, WINDOW_TOML)
    return folder


@contextmanager
def paused(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """All of them stand still, as when a container is paused or a machine is moved."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    for process in processes:
        until("it does not stop", lambda process=process: process.status() == psutil.STATUS_STOPPED)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_wall_clock_that_jumps_by_days_changes_no_answer(models: Path, tmp_path: Path, processes: int) -> None:
    """Rows without a timestamp get the time of their arrival, and stay in the order in which they came."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    env = {"PYTHONPATH": str(tmp_path), "GLASSAI_LINES_IDLE_S": "60"}
    known = [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]
    options = ("--required", "window", "--required", "adder")
    alone = LiveServer(models, list(options), env)
    with alone if processes == 1 else group(models, *options, processes=processes, **env) as server:
        for line in ("a", "b", "c"):
            body = call("window", row(0.5), stream_id=line, timeout_ms=20_000)
            answers = [server.post(STREAM, body) for _ in known]
            assert [answer.body for answer in answers if answer.status != 200] == []
            assert [answer.json["result"]["real_rows"] for answer in answers] == known
            assert all(0 < answer.json["result"]["processing_time_ms"] < 20_000 for answer in answers)
        with web_socket(f"ws://127.0.0.1:{server.port}{STREAM}?model_name=window&stream_id=d") as stream:
            for expected in known:
                stream.send(json.dumps(row(0.5)))
                assert json.loads(stream.recv(20))["result"]["real_rows"] == expected
        with connect(server.port) as raw:
            raw.sendall(wire(INFER, infer_body(1.0), "x-timeout-ms: 20000") * 200)
            assert {answer.status for answer in read_answers(raw, 200)} == {200}
        page = metrics(server)
        assert all(value >= 0 for value in page.values())
        assert total(page, "glassai_request_errors_total") == 0
        assert "hung" not in server.output
    assert len((tmp_path / "seen").read_text()) > 40, "nobody has asked this clock"


def test_a_server_that_stood_still_blames_no_caller(models: Path) -> None:
    """What was sent meanwhile lies in the sockets, and is read after the timer has rung."""
    env = {"GLASSAI_SERVER_HEADER_TIMEOUT_S": f"{LIMIT_S}", "GLASSAI_SERVER_STALL_TIMEOUT_S": f"{LIMIT_S}"}
    message = wire(INFER, infer_body(1.0))
    with LiveServer(models, ["--required", "adder"], env) as server, ExitStack() as stack:
        in_head, in_body = (stack.enter_context(connect(server.port)) for _ in range(2))
        in_head.sendall(message[:30])
        in_body.sendall(message[:-5])
        time.sleep(LOOK_INTERVAL_S)  # until both have been looked at
        with paused([psutil.Process(server.process.pid)]):
            time.sleep(LIMIT_S + 0.2)
            in_head.sendall(message[30:])
            in_body.sendall(message[-5:])
        for raw in (in_head, in_body):
            (answer,) = read_answers(raw, 1)
            assert answer.status == 200, answer.body
        assert server.get("/health/ready").status == 200


@pytest.mark.slow
def test_a_pause_of_all_processes_costs_none_of_them(models: Path) -> None:
    """The parent kills who is silent for 30 s, and was as silent itself."""
    with group(models, "--required", "window") as server:
        family = children(server)
        assert server.post(STREAM, call("window", row(0.5), stream_id="a")).json["result"]["real_rows"] == 1
        with paused([psutil.Process(server.process.pid), *family]):
            time.sleep(32)
        until("the page is not answered", lambda: metrics(server)['glassai_processes{state="answering"}'] == 2)
        assert server.post(STREAM, call("window", row(0.5), stream_id="a")).json["result"]["real_rows"] == 2
        assert children(server) == family
        assert "is killed" not in server.output
