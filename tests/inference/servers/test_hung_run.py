"""A run that hangs in the server's own process: its caller is told, readiness says so, nobody else notices."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.servers.test_native_crash import ENDLESS, Neighbour, ask


def test_a_hung_run_is_stopped_and_the_model_is_ready_again(tmp_path: Path) -> None:
    tiny_models.package(tmp_path, "loop", 1, tiny_models.looping)
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    env = {"GLASSAI_HEALTH_CANARY_INTERVAL_S": "1000", "GLASSAI_HEALTH_CANARY_MAX_AGE_S": "2000"}
    options = ["--required", "loop", "--required", "adder"]
    with LiveServer(tmp_path, options, env) as server, Neighbour(server) as neighbour:
        answers: list[tuple[int, str]] = []

        def hang() -> None:
            reply = ask(server, "loop", ENDLESS)
            answers.append((reply.status, reply.json["error"]))

        caller = threading.Thread(target=hang)
        began_s = time.monotonic()
        caller.start()
        told = re.search(r"a run takes longer than ([0-9.e+-]+) s", server.line("a run takes longer than"))
        assert server.get("/health/ready").status == 503
        seen_s = time.monotonic() - began_s
        assert told is not None
        assert float(told[1]) < seen_s  # how soon is not asked: a machine that stands still gives the run its time
        caller.join(30)
        (answered,) = answers
        assert answered[0] == 500
        assert "was given up" in answered[1]
        not_ready = server.get("/health/ready")
        assert not_ready.status == 503
        assert "loop/1: a run has taken longer than" in not_ready.body.decode()
        assert ask(server, "loop", 3.0).status == 200
        assert server.get("/health/ready").status == 200
    assert set(neighbour.statuses) == {200}
