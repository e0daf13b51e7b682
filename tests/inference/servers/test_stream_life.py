"""Streams over the life of a server: its stop, its processes, and the example that people begin with."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK

from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer
from tests.inference.raw_stream import RawStream
from tests.inference.servers.test_stream_socket import LIMITS, number, stream, wait_for


def test_sigterm_answers_what_was_begun_and_says_going_away(tmp_path: Path) -> None:
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "slow", 1, lambda path: tiny_models.slow(path, 300))
    with LiveServer(tmp_path, [], LIMITS) as server:
        with stream(server, "model_name=slow") as connection, RawStream(server.port, "model_name=adder") as idle:
            for n in range(3):
                connection.send(number(n))
            wait_for(server, "glassai_requests_pending", 3)
            with ThreadPoolExecutor(1) as pool:
                stopping = pool.submit(server.stop)
                assert [json.loads(connection.recv(20))["result"]["y"] for n in range(3)] == [[[0.0]], [[1.0]], [[2.0]]]
                with pytest.raises(ConnectionClosedOK, match="1001"):
                    connection.recv(20)
                assert idle.close_code() == 1001
                assert stopping.result() == 0
        assert "Traceback" not in server.output


def test_the_example_of_the_page_about_the_api_runs(
    bundled_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "api.md").read_text().partition("## A stream of rows")[2]
    example = page.partition("```python\n")[2].partition("```")[0]
    exec(example.replace("localhost:8000", f"127.0.0.1:{bundled_server.port}"), {})
    told = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 40
    assert all(0 < probability < 1 for probability in told)
