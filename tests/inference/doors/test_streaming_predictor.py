"""The streaming door as an operator meets it: what it prints, and what keeps it from starting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inference.streaming_predictor import EXIT_GAVE_UP, GiveUp, banner, build_parser, parsed
from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer


def run(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference.streaming_predictor", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_start_says_where_it_is_who_reaches_it_and_what_to_try(bundled_server: LiveServer):
    output = bundled_server.output
    assert f"http://localhost:{bundled_server.port}" in output
    assert "Listening on 127.0.0.1 only, since there is no authentication yet" in output
    assert "curl -s" in output


def test_the_line_to_try_works_as_printed(bundled_server: LiveServer):
    line = next(line for line in bundled_server.output.splitlines() if line.strip().startswith("curl"))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    assert '"defect_probability":' in done.stdout


def test_an_open_address_is_warned_of():
    text = banner("0.0.0.0", 8000, ["adder"])
    assert "Warning: listening on 0.0.0.0 without authentication" in text
    assert "http://localhost:8000" in text
    assert "/v2/models/adder" in text


def test_a_taken_port_stops_the_start_and_says_what_to_do(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--models", str(tmp_path), "--port", str(port))
    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["nowhere", "a_file"])
def test_a_models_folder_that_cannot_be_read_stops_the_start(tmp_path: Path, folder: str):
    (tmp_path / "a_file").write_text("glass")
    done = run("--models", str(tmp_path / folder), "--port", "0")
    assert done.returncode == 2
    assert f"{folder}' cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_problems_of_the_settings_are_listed_together(tmp_path: Path):
    config = tmp_path / "glassai.toml"
    config.write_text('[server]\nprot = 9000\nhost = 5\n[quue]\nrows_max = 1\n[runtime]\nrunners = "many"\n')
    done = run("--config", str(config), GLASSAI_SERVER_PORT="a lot")
    assert done.returncode == 2
    for part in ("server.port", "server.host", "queue", "runtime.runners", "GLASSAI_SERVER_PORT"):
        assert part in done.stderr, part
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_be_loaded_does_not_stop_the_start(tmp_path: Path):
    tiny_models.package(tmp_path, "broken", 1, tiny_models.corrupt)
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    with LiveServer(tmp_path, ["--required", "adder"]) as server:
        assert server.get("/v2/models/adder/ready").status == 200
        assert server.get("/v2/models/broken/ready").status == 503
        assert server.line("Model broken/1 cannot be loaded")


def test_help_lists_the_options():
    text = build_parser().format_help()
    for option in ("--models", "--host", "--port", "--config", "--required", "--processes"):
        assert option in text
    assert "--child" not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [(["--prot", "8"], "--prot 8 (--port was meant?)"), (["--models=x", "--zzz"], "--zzz"), (["7"], "7")],
)
def test_an_option_that_is_not_there_is_refused_with_the_nearest(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        parsed(build_parser(), given)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {said}\n")


def test_the_banner_says_how_many_processes_serve():
    assert "Processes: 3" in banner("127.0.0.1", 8000, ["adder"], processes=3)
    assert "Processes" not in banner("127.0.0.1", 8000, ["adder"])


def test_a_process_that_is_given_up_stops_as_by_a_signal_and_says_so_by_its_status():
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        give_up = GiveUp()
        assert give_up.status == 0
        give_up("too many threads are lost")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert give_up.status == EXIT_GAVE_UP == 70
