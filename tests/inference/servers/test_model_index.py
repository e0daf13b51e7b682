"""/api/models tells of every version what it takes, how it batches, and what keeps it from answering."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer

WINDOW_TOML = """
format = 1
[model]
task = "sensor_window"
title = "Mean of a window"
[sensor_window]
input = "rows"
rows = 4
[[sensor_window.features]]
name = "furnace_temperature"
unit = "degC"
valid_min = 1400.0
valid_max = 1700.0
[output]
name = "defect_probability"
kind = "binary"
labels = ["ok", "defect"]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        tiny_models.package(folder, "adder", version, tiny_models.adder)
    tiny_models.package(folder, "broken", 1, tiny_models.corrupt)
    tiny_models.package(folder, "alone", 1, tiny_models.fixed_batch_one)
    tiny_models.package(folder, "window", 1, lambda path: tiny_models.window_model(path, 4, 1), toml=WINDOW_TOML)
    required = ["--required", "adder", "--required", "alone", "--required", "window"]
    with LiveServer(folder, required, env={"GLASSAI_MODELS_VERSIONS": "all"}) as server:
        entries = server.get("/api/models").json["models"]
    return {f"{entry['name']}/{entry['version']}": entry for entry in entries}


def test_every_version_is_listed_in_order(models: dict[str, Any]):
    assert list(models) == ["adder/1", "adder/2", "alone/1", "broken/1", "window/1"]


def test_a_loaded_version_tells_its_tensors_and_its_batching(models: dict[str, Any]):
    adder = models["adder/2"]
    assert (adder["state"], adder["ready"], adder["reasons"]) == ("ready", True, [])
    assert adder["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert adder["provider"] == "cpu"
    assert any("cuda" in reason for reason in adder["passed_over"])
    assert adder["batching"]["batched"] is True
    assert adder["batching"]["rows_max"] >= 1


def test_a_version_that_runs_alone_says_why(models: dict[str, Any]):
    batching = models["alone/1"]["batching"]
    assert (batching["batched"], batching["rows_max"]) == (False, 1)
    assert "alone" in batching["reason"]


def test_a_failed_version_tells_its_problems(models: dict[str, Any]):
    broken = models["broken/1"]
    assert (broken["state"], broken["ready"], broken["batching"]) == ("failed", False, None)
    assert any("model.onnx" in reason for reason in broken["reasons"])


def test_a_sensor_model_tells_its_sensors(models: dict[str, Any]):
    window = models["window/1"]
    assert (window["task"], window["title"], window["labels"]) == (
        "sensor_window",
        "Mean of a window",
        ["ok", "defect"],
    )
    (feature,) = window["features"]
    assert (feature["name"], feature["unit"], feature["valid_min"]) == ("furnace_temperature", "degC", 1400.0)
