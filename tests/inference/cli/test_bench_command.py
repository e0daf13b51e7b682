"""`glassai bench` against a live server, as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.cli import commands
from inference.cli.commands import app
from tests.inference.live_server import LiveServer

runner = CliRunner()
SHORT = ["--seconds", "0.1", "--rate-max", "200", "--connections", "8"]
MODEL = ["--model", "lstm_defect_predictor"]


def bench(server: LiveServer, *options: str) -> str:
    """What the command prints; the goal is one that the slowest machine keeps, and late is a tenth of it."""
    done = runner.invoke(app, ["bench", "--url", server.url, *MODEL, *SHORT, "--goal-p99-ms", "20000", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("pattern", ["poisson", "bursts"])
def test_a_table_with_the_capacity_is_printed(bundled_server: LiveServer, pattern: str, tmp_path: Path) -> None:
    plot = tmp_path / "plot.html"
    lines = bench(bundled_server, "--pattern", pattern, "--plot", str(plot)).splitlines()
    assert "rows FP32 [1, 32, 3] as JSON" in lines[0]
    assert lines[2].split()[0] == "rate/s"
    assert f"20000 ms, {pattern} arrivals: at least" in lines[-1]
    assert "</svg>" in plot.read_text()


def test_json_has_every_step(bundled_server: LiveServer) -> None:
    report = json.loads(bench(bundled_server, "--json"))
    assert report["model"] == "lstm_defect_predictor"
    assert report["steps"][-1]["failed"] == 0
    assert report["steps"][-1]["answered_s"] > 0


def test_the_callers_own_body_and_headers_are_sent(bundled_server: LiveServer, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    tensor = {"name": "rows", "shape": [1, 32, 3], "datatype": "FP32", "data": [1.0] * 96}
    body.write_text(json.dumps({"inputs": [tensor]}))
    assert "the given body" in bench(bundled_server, "--body", str(body), "--header", "X-Priority: high")


def failing(*options: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The error text of a call that cannot start."""
    assert commands.run(["bench", *SHORT, *options]) == 2
    return capsys.readouterr().err


def test_an_unknown_model_is_named_with_those_served(bundled_server: LiveServer, capsys) -> None:
    said = failing("--url", bundled_server.url, "--model", "lstn", capsys=capsys)
    assert "'lstn'" in said
    assert "lstm_defect_predictor" in said


def test_a_refused_body_is_explained_in_the_servers_words(bundled_server: LiveServer, tmp_path: Path, capsys) -> None:
    (tmp_path / "body.json").write_text('{"inputs": []}')
    said = failing("--url", bundled_server.url, *MODEL, "--body", str(tmp_path / "body.json"), capsys=capsys)
    assert "status 400" in said
    assert "--body FILE" in said


def test_a_missing_server_is_named(capsys) -> None:
    assert "No server answers at http://127.0.0.1:9" in failing("--url", "http://127.0.0.1:9", *MODEL, capsys=capsys)


@pytest.mark.parametrize(("option", "given"), [("--pattern", "steps"), ("--plot", "plot.png")])
def test_what_cannot_be_honoured_is_refused_with_what_can(option: str, given: str) -> None:
    done = runner.invoke(app, ["bench", "--url", "http://127.0.0.1:9", *MODEL, option, given])
    assert done.exit_code == 2
    assert given in done.stderr
    assert "accepted" in done.stderr
