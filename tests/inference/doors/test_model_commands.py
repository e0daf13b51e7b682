"""`glassai models` tells everything that is wrong, of every package, and what a sound one will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.cli.model_commands import Checked, NotThere, checked, listed, shown
from inference.settings import ModelsSettings, Settings
from inference.start_errors import ModelsFolderUnreadable
from tests.inference import tiny_models

BUNDLED = Path(__file__).parents[3] / "models"
FIVE_MISTAKES = """
format = 2
[modle]
task = "sensor_window"
[sensor_window]
input = "x"
rows = "four"
features = [{ name = "temperature", unit = "degC", valid_min = 5.0, valid_max = 1.0 }]
[output]
name = "y"
kind = "binary"
labels = ["ok"]
"""


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(models=ModelsSettings(folder=str(folder), **changes))  # type: ignore[arg-type] - any of its fields


def by_model(found: list[Checked]) -> dict[str, Checked]:
    return {one.model: one for one in found}


def test_every_package_is_checked_and_one_failure_hides_no_other(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "corrupt", 1, tiny_models.corrupt)
    tiny_models.package(tmp_path, "mistaken", 1, tiny_models.adder, toml=FIVE_MISTAKES)
    (tmp_path / "empty" / "1").mkdir(parents=True)
    tampered = tiny_models.package(tmp_path, "tampered", 1, tiny_models.adder, manifest=True)
    tiny_models.adder(tampered / "model.onnx", step=2.0)
    found = by_model(list(checked(settings(tmp_path))))
    assert found["adder/1"].problems == ()
    assert found["corrupt/1"].problems
    assert len(found["mistaken/1"].problems) >= 5
    assert any("model.onnx: is missing" in problem for problem in found["empty/1"].problems)
    assert any("sha256" in problem for problem in found["tampered/1"].problems)


def test_a_sound_package_says_how_it_will_be_served(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    (adder,) = checked(settings(tmp_path))
    facts = "\n".join(adder.facts)
    assert "runs on: cpu (onnxruntime" in facts
    assert "isolation: thread" in facts
    assert "passed over: cuda: " in facts
    assert "batching: batches on axis" in facts
    assert "example: none in the package" in facts


def test_the_folder_itself_is_checked(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    (tmp_path / "adder" / "second").mkdir()
    found = list(checked(settings(tmp_path, required=("vit",), versions=[7])))
    assert found[0].model == str(tmp_path)
    told = "\n".join(found[0].problems)
    assert "adder/second" in told
    assert "vit is required and not there" in told
    assert "version 7 is wanted and not there" in told


def test_an_unreadable_folder_stops_the_command(tmp_path: Path):
    for command in (listed, lambda given: list(checked(given)), lambda given: shown(given, "adder", None)):
        with pytest.raises(ModelsFolderUnreadable, match="--models DIR"):
            command(settings(tmp_path / "none"))


def test_the_list_marks_what_is_loaded(tmp_path: Path):
    for version in (1, 2, 10):
        tiny_models.package(tmp_path, "adder", version, tiny_models.adder)
    assert [(one.version, one.loaded) for one in listed(settings(tmp_path))] == [(1, False), (2, False), (10, True)]
    assert [one.loaded for one in listed(settings(tmp_path, versions="all"))] == [True, True, True]


def test_the_bundled_sensor_model_is_shown_with_units_and_meaning():
    text = shown(settings(BUNDLED), "lstm_defect_predictor", None)
    assert "furnace_temperature: 1400 to 1700 degC" in text
    assert "meaning of defect_probability: ok, defect, threshold" in text
    assert "inputs: rows FP32 [-1, 32, 3]" in text


def test_a_model_in_a_process_of_its_own_is_shown_as_such(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder, toml='[runtime]\nisolation = "process"')
    text = shown(settings(tmp_path), "adder", None)
    assert "\n  isolation: process\n" in text
    assert "batching: batches on axis" in text


def test_a_bare_model_is_shown_as_tensors(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 3, tiny_models.adder)
    text = shown(settings(tmp_path), "adder", 3)
    assert text.startswith("adder/3\n  no model.toml: tensors in, tensors out\n")


def test_what_is_not_there_is_answered_with_what_is(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    with pytest.raises(NotThere, match=r"Model 'ader' is not in .* Did you mean 'adder'\?"):
        shown(settings(tmp_path), "ader", None)
    with pytest.raises(NotThere, match=r"Version 2 of model 'adder' is not in .* There: one of 1"):
        shown(settings(tmp_path), "adder", 2)
