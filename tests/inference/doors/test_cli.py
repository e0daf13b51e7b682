"""`glassai` as an operator starts it: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.cli import main
from inference.version import VERSION
from tests.inference import tiny_models


def glassai(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from inference.cli import main; sys.exit(main())", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith("GLASSAI_")} | environ
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def test_help_lists_every_command():
    done = glassai("--help")
    assert done.returncode == 0
    for command in ("serve", "config", "models", "version"):
        assert f"\n  {command} " in done.stdout


def test_serve_shows_its_own_options_and_loads_nothing_of_the_others():
    code = (
        "import sys; from inference.cli import main\n"
        "try:\n    main(['serve', '--help'])\n"
        "finally:\n    print(sorted({'typer', 'rich', 'click'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "usage: glassai serve" in done.stdout
    for option in ("--models DIR", "--host HOST", "--port PORT", "--config FILE", "--required NAME"):
        assert option in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_an_unknown_command_or_option_is_a_usage_error():
    for arguments, named in (
        (["confg"], "config"),
        (["config", "--fromat"], "--fromat"),
        (["serve", "--prot"], "--prot"),
    ):
        done = glassai(*arguments)
        assert done.returncode == 2, arguments
        assert named in done.stderr
        assert "Traceback" not in done.stderr


def test_version():
    assert glassai("version").stdout == f"{VERSION}\n"


def test_settings_that_cannot_be_honoured_stop_with_all_their_problems_and_no_traceback():
    done = glassai("config", GLASSAI_SERVER_PORT="x", GLASSAI_SERVER_PROT="1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("glassai: The settings have 2 problems:\n  - ")
    assert "GLASSAI_SERVER_PORT was meant?" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_stops_the_same_way(tmp_path: Path):
    done = glassai("serve", "--models", str(tmp_path / "none"), "--port", "0")
    assert done.returncode == 2
    assert str(tmp_path / "none") in done.stderr
    assert "Traceback" not in done.stderr


def test_config_reads_file_and_environment(tmp_path: Path):
    file = tmp_path / "plant.toml"
    file.write_text("[server]\nport = 9000\n")
    done = glassai("config", "--config", str(file), "--json", GLASSAI_LOGGING_LEVEL="DEBUG")
    rows = {row["key"]: row for row in json.loads(done.stdout)}
    assert (rows["server.port"]["value"], rows["server.port"]["source"]) == ("9000", f"file {file}")
    assert rows["logging.level"]["source"] == "environment GLASSAI_LOGGING_LEVEL"


def test_check_exits_with_1_when_something_is_wrong(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    assert glassai("models", "check", "--models", str(tmp_path)).returncode == 0
    tiny_models.package(tmp_path, "broken", 1, tiny_models.corrupt)
    done = glassai("models", "check", "--models", str(tmp_path))
    assert done.returncode == 1
    assert "ok  adder/1" in done.stdout
    assert "FAILED  broken/1" in done.stdout


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -c 'from inference.cli import main; main()' config | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("setting")
    assert "Traceback" not in done.stderr


def test_main_gives_the_exit_status_back(capsys: pytest.CaptureFixture[str]):
    assert main(["config", "--config", "/none.toml"]) == 2
    assert "cannot be read" in capsys.readouterr().err
