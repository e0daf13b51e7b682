"""A model with a process of its own crashes in the middle of a run: its callers are told, nobody else notices."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer, Reply
from tests.inference.runtime.child_twin import until_busy

ENDLESS = 1e15
BUSY_TICKS = 20  # more than measuring its batch size takes
LIMIT_S = 30.0


def ask(server: LiveServer, model: str, value: float) -> Reply:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}]
    return server.post(f"/v2/models/{model}/infer", {"inputs": inputs})


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


class Neighbour:
    """Somebody who asks another model all the time, and keeps the statuses."""

    def __init__(self, server: LiveServer) -> None:
        self.statuses: list[int] = []
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.is_set():
            self.statuses.append(ask(self._server, "adder", 1.0).status)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGSEGV, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_native_crash_harms_one_batch_of_one_model(tmp_path: Path, number: signal.Signals) -> None:
    isolated = '[runtime]\nisolation = "process"\n'
    tiny_models.package(tmp_path, "loop", 1, tiny_models.looping, toml=isolated)
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    with LiveServer(tmp_path, ["--required", "loop", "--required", "adder"]) as server:
        (child,) = children_of(server.process.pid)
        answers: SimpleQueue[Reply] = SimpleQueue()
        with Neighbour(server) as neighbour:
            caller = threading.Thread(target=lambda: answers.put(ask(server, "loop", ENDLESS)))
            caller.start()
            until_busy(child, BUSY_TICKS)
            os.kill(child, number)
            crashed = answers.get(timeout=LIMIT_S)
            asked = len(neighbour.statuses)
            end = time.monotonic() + LIMIT_S
            while (reply := ask(server, "loop", 2.0)).status != 200:  # it waits for the new process, within bounds
                assert reply.status == 503
                assert "is not ready (restarting): its process" in reply.json["error"]
                assert time.monotonic() < end
        assert crashed.status == 500
        sentence = f"Model loop/1 failed to run: the process that ran it died by {number.name}"
        assert crashed.json["error"] == sentence
        assert reply.json["outputs"][0]["data"] == [2.0]
        assert set(neighbour.statuses) == {200}
        assert len(neighbour.statuses) > asked
        assert f"its process {child} died by {number.name}" in server.line(f"its process {child}")
        (replaced,) = children_of(server.process.pid)
        assert replaced != child
        pid = server.process.pid
        assert server.stop() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{replaced}").exists()
