"""The commands' texts and choices, without a process of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.cli.commands import app, table
from inference.settings_source import FIELDS, reference
from tests.inference import tiny_models

runner = CliRunner()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_config_shows_every_setting_with_its_source():
    lines = runner.invoke(app, ["config"], env={"GLASSAI_SERVER_PORT": "9001"}).stdout.splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    assert [line.split()[0] for line in lines[1:]] == list(FIELDS)
    (port,) = (line for line in lines if line.startswith("server.port "))
    assert port.split(maxsplit=2) == ["server.port", "9001", "environment GLASSAI_SERVER_PORT"]


def test_config_can_print_its_page():
    assert runner.invoke(app, ["config", "--reference"]).stdout == reference()


def test_models_are_listed_with_a_star_on_those_that_are_loaded(tmp_path: Path):
    for version in (1, 2):
        tiny_models.package(tmp_path, "adder", version, tiny_models.adder)
    tiny_models.package(tmp_path, "broken", 1, tiny_models.adder, toml="format = 9\n")
    done = runner.invoke(app, ["models", "list", "--models", str(tmp_path)])
    header, first, second, broken = done.stdout.splitlines()
    assert header.split() == ["model", "version", "task", "title"]
    assert first.split()[:2] == ["adder", "1"]
    assert second.split()[:3] == ["*", "adder", "2"]
    assert broken.endswith("1 problem, see `glassai models check`")


def test_an_empty_folder_says_so(tmp_path: Path):
    for command in ("list", "check"):
        done = runner.invoke(app, ["models", command, "--models", str(tmp_path)])
        assert (done.exit_code, done.stdout) == (0, "The models folder holds no models.\n")


def test_the_folder_comes_from_the_settings(tmp_path: Path):
    tiny_models.package(tmp_path / "plant", "adder", 1, tiny_models.adder)
    done = runner.invoke(app, ["models", "list", "--json"], env={"GLASSAI_MODELS_FOLDER": str(tmp_path / "plant")})
    assert [entry["model"] for entry in json.loads(done.stdout)] == ["adder"]


def test_check_prints_json_with_problems_and_facts(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "broken", 1, tiny_models.corrupt)
    done = runner.invoke(app, ["models", "check", "--models", str(tmp_path), "--json"])
    good, bad = json.loads(done.stdout)
    assert done.exit_code == 1
    assert good["problems"] == []
    assert good["facts"]
    assert bad["problems"]


def test_show_takes_a_name_and_a_version(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "adder", 2, tiny_models.adder)
    folder = ["--models", str(tmp_path)]
    assert runner.invoke(app, ["models", "show", "adder", *folder]).stdout.startswith("adder/2\n")
    assert runner.invoke(app, ["models", "show", "adder/1", *folder]).stdout.startswith("adder/1\n")
    wrong = runner.invoke(app, ["models", "show", "adder/x", *folder])
    assert wrong.exit_code == 2
    assert "NAME/VERSION" in wrong.stderr


def test_serve_hands_its_options_over_as_they_are():
    done = runner.invoke(app, ["serve", "--help"])
    assert done.stdout.startswith("usage: glassai serve")


def test_a_table_is_as_wide_as_its_cells():
    assert table(("a", "b"), [("xx", "y"), ("z", "w w")]) == "a   b\nxx  y\nz   w w"
