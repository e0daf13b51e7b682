"""Stopping: what was accepted is answered, what comes is refused, nothing is left behind."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer, Reply
from tests.inference.raw_http import connect, read_answer, read_answers, wire

BOTH_WAYS = pytest.mark.parametrize("fast_route", ["true", "false"], ids=["fast", "ordinary"])
ORDINARY = pytest.param("false", id="ordinary", marks=pytest.mark.slow)
WAYS = pytest.mark.parametrize("fast_route", [pytest.param("true", id="fast"), ORDINARY])
READ_AFTER_S = 0.1  # within which the server has surely read what was sent
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}).encode()
ASK_SLOW = wire("/v2/models/slow/infer", BODY)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "slow", 1, lambda path: tiny_models.slow(path, 200))  # half a second and more
    return tmp_path


def pending(server: LiveServer) -> int:
    """Accepted requests without an answer, as the metrics show them."""
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("glassai_requests_pending{"))


def rows_run(server: LiveServer) -> float:
    """Rows of the slow model that have run."""
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith('glassai_rows_total{model="slow"'))


def wait_pending(server: LiveServer, count: int) -> None:
    end = time.monotonic() + 30
    while pending(server) != count:
        assert time.monotonic() < end, f"{pending(server)} pending, not {count}"


@dataclass
class Asked:
    """When a request went out, and what came back: a status, or 0 for a connection that was closed."""

    sent_s: float
    status: int


def plain(server: LiveServer) -> Reply:
    """A request as plain as the fast route takes it: http.client adds `Accept-Encoding`, which that does not serve."""
    with connect(server.port) as raw:
        raw.sendall(ASK_SLOW)
        return read_answers(raw, 1)[0]


def ask_until_stopped(raw: socket.socket) -> list[Asked]:
    """One request after the other on one connection until the server is gone."""
    asked: list[Asked] = []
    with raw.makefile("rb") as reader, suppress(ConnectionError):
        while not asked or asked[-1].status == 200:
            raw.sendall(ASK_SLOW)
            asked.append(Asked(time.monotonic(), 0))
            reply = read_answer(reader)
            asked[-1].status = 0 if reply is None else reply.status
    return asked


@BOTH_WAYS
def test_sigterm_under_load_loses_nothing_and_leaves_nothing(models: Path, fast_route: str):
    """A run takes longer than all else, so that every caller has a request under way at any time."""
    with LiveServer(models, ["--required", "slow"], {"GLASSAI_SERVER_FAST_ROUTE": fast_route}) as server:

        def ask(_: int) -> list[Asked]:
            with connect(server.port) as raw:
                return ask_until_stopped(raw)

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, n) for n in range(8)]
            wait_pending(server, 8)
            time.sleep(READ_AFTER_S)
            family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
            stopped_s = time.monotonic()
            assert server.stop() == 0
            asked = [each for future in asking for each in future.result()]
        accepted = [each for each in asked if each.sent_s < stopped_s - READ_AFTER_S]
        assert len(accepted) >= 8
        assert {each.status for each in accepted} == {200}
        assert {each.status for each in asked} <= {200, 503, 0}
        assert not [process for process in family if process.is_running()]
        assert "Traceback" not in server.output


@WAYS
def test_a_request_in_flight_at_sigterm_is_answered(models: Path, fast_route: str):
    env = {"GLASSAI_SERVER_FAST_ROUTE": fast_route}
    with LiveServer(models, ["--required", "slow"], env) as server, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(plain, server) for _ in range(3)]
        wait_pending(server, 3)
        assert server.stop() == 0
        assert [future.result().status for future in asking] == [200, 200, 200]


def test_the_drain_limit_ends_the_wait_and_tells_who_waits(models: Path):
    env = {"GLASSAI_SERVER_DRAIN_LIMIT_S": "0.05"}
    with LiveServer(models, ["--required", "slow"], env) as server, ThreadPoolExecutor(9) as pool:
        asking = [pool.submit(plain, server) for _ in range(8)]
        wait_pending(server, 8)
        assert server.stop() == 0
        replies = [future.result() for future in asking]
        assert {reply.status for reply in replies} <= {200, 503}
        assert "The server is stopping" in replies[-1].json["error"]


def test_a_second_signal_does_not_wait(models: Path):
    with LiveServer(models, ["--required", "slow"]) as server, ThreadPoolExecutor(9) as pool:
        asking = [pool.submit(plain, server) for _ in range(8)]
        wait_pending(server, 8)
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        for future in asking:
            error = future.exception()
            assert error is None or isinstance(error, (ConnectionError, http.client.HTTPException))


@BOTH_WAYS
def test_who_hangs_up_frees_the_place_and_never_runs(models: Path, fast_route: str):
    env = {"GLASSAI_HEALTH_CANARY_INTERVAL_S": "10", "GLASSAI_SERVER_FAST_ROUTE": fast_route}
    with LiveServer(models, ["--required", "slow"], env) as server:
        connections, before = [], rows_run(server)
        for _ in range(5):
            raw = connect(server.port)
            raw.sendall(ASK_SLOW)
            connections.append(raw)
        wait_pending(server, 5)
        for raw in connections:
            raw.close()
        wait_pending(server, 0)
        metrics = server.get("/metrics").body.decode()
        assert 'reason="caller_gone"' in metrics
        assert plain(server).status == 200
        assert rows_run(server) - before < 5, "one was begun, and one is asked for now"
        assert "Traceback" not in server.output


@WAYS
def test_a_pipeline_in_flight_at_sigterm_is_answered_in_order(models: Path, fast_route: str):
    env = {"GLASSAI_SERVER_FAST_ROUTE": fast_route}
    with LiveServer(models, ["--required", "slow"], env) as server, connect(server.port) as raw:
        raw.sendall(ASK_SLOW * 3)
        wait_pending(server, 1)  # one of a connection at a time
        assert server.stop() == 0
        with raw.makefile("rb") as reader:
            statuses = [reply.status for reply in iter(lambda: read_answer(reader), None)]
        assert statuses == [200, 503, 503], "the first was accepted, the others came to a server that stops"


def states_of(server: LiveServer) -> list[str]:
    """What the server's sockets are at."""
    return [found.status for found in psutil.Process(server.process.pid).net_connections("tcp4")]


@WAYS
def test_who_half_closes_is_taken_for_gone(models: Path, fast_route: str):
    """A hang-up looks the same from here: the request leaves the queue, and the socket is closed."""
    env = {"GLASSAI_HEALTH_CANARY_INTERVAL_S": "10", "GLASSAI_SERVER_FAST_ROUTE": fast_route}
    with LiveServer(models, ["--required", "slow"], env) as server:
        halves = []
        for _ in range(5):
            raw = connect(server.port)
            raw.sendall(ASK_SLOW)
            halves.append(raw)
        wait_pending(server, 5)
        for raw in halves:
            raw.shutdown(socket.SHUT_WR)
        wait_pending(server, 0)
        for raw in halves:
            assert raw.recv(1) == b""
            raw.close()
        end = time.monotonic() + 20  # the last look at the metrics was a connection too, which is being closed
        while "CLOSE_WAIT" in (states := states_of(server)):
            assert time.monotonic() < end, states
        assert "Traceback" not in server.output


@pytest.mark.parametrize("kills", [5, pytest.param(25, marks=pytest.mark.slow)])
def test_after_a_kill_the_next_start_serves_on_the_same_port(models: Path, kills: int):
    server = LiveServer(models, ["--required", "adder"])
    server.start()
    server.options += ["--port", str(server.port)]
    for number in range(kills):
        with connect(server.port) as raw:
            raw.sendall(wire("/v2/models/adder/infer", BODY) * 50)
            server.process.kill()
            server.process.wait(30)
            server._reader.join(30)
            server.process.stdout.close()
        server.lines.clear()
        server.start()
        assert server.post("/v2/models/adder/infer", BODY).status == 200, f"after kill {number}"
    assert server.stop() == 0
