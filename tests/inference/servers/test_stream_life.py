"""Streams over the life of a server: its stop, its processes, and the example that people begin with."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK

from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer
from tests.inference.process_group import group
from tests.inference.raw_stream import RawStream
from tests.inference.servers.test_inference_api import STREAM, WINDOW_TOML, call, row
from tests.inference.servers.test_stream_socket import LIMITS, ask, number, stream, wait_for


def test_sigterm_answers_what_was_begun_and_says_going_away(tmp_path: Path) -> None:
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "slow", 1, lambda path: tiny_models.slow(path, 20))
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


def test_a_line_over_many_connections_to_two_processes_is_one_line(tmp_path: Path) -> None:
    tiny_models.package(tmp_path, "window", 1, tiny_models.window_model, WINDOW_TOML)
    with group(tmp_path) as server, ExitStack() as opened:
        streams = [opened.enter_context(stream(server, "model_name=window&stream_id=L1")) for _ in range(8)]
        rows = [row(n / 100, timestamp=f"2025-12-05T10:00:{n:02}Z") for n in range(40)]
        replies = [ask(streams[n % 8], json.dumps(data))["result"] for n, data in enumerate(rows)]
        assert [reply["real_rows"] for reply in replies] == [1, 2, 3, *[4] * 37]
        alone = [server.post(STREAM, call("window", data, stream_id="L2")).json["result"] for data in rows]
        told = [reply["defect_probability"] for reply in replies]
        assert told == [reply["defect_probability"] for reply in alone]


def test_the_example_of_the_page_about_the_api_runs(
    bundled_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "api.md").read_text().partition("## A stream of rows")[2]
    example = page.partition("```python\n")[2].partition("```")[0]
    exec(example.replace("localhost:8000", f"127.0.0.1:{bundled_server.port}"), {})
    told = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 40
    assert all(0 < probability < 1 for probability in told)
