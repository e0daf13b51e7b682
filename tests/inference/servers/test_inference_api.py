"""`POST /api/inference/stream` as callers meet it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference import errors
from inference.errors import InferenceError
from inference.servers.inference_api import STATUS_BY_REASON, media_type
from inference.start_errors import StartError
from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer

STREAM = "/api/inference/stream"

WINDOW_TOML = """
format = 1
[model]
task = "sensor_window"
[sensor_window]
input = "rows"
rows = 4
[[sensor_window.features]]
name = "furnace_temperature"
unit = "degC"
valid_min = -1.0
valid_max = 1.0
when_missing = "hold_last"
[[sensor_window.features]]
name = "belt_speed"
unit = "m/h"
valid_min = -1.0
valid_max = 1.0
[[sensor_window.features]]
name = "pressure"
unit = "Pa"
valid_min = -1.0
valid_max = 1.0
[output]
name = "defect_probability"
kind = "binary"
labels = ["ok", "defect"]
threshold = 0.5
short_history_confidence = [0.5, 0.6, 0.8, 1.0]
"""
IMAGE_TOML = """
format = 1
[model]
task = "image"
[image]
input = "pixels"
width = 4
height = 4
[output]
name = "probabilities"
kind = "classes"
labels = ["none", "bubble", "crack", "scratch", "inclusion"]
"""


def row(value: object = 0.0, **more: object) -> dict[str, object]:
    return {"furnace_temperature": value, "belt_speed": 0.0, "pressure": 0.0, **more}


def call(model_name: str, data: object, **more: object) -> dict[str, object]:
    return {"model_name": model_name, "data": data, **more}


def png(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        tiny_models.package(models, "window", version, tiny_models.window_model, WINDOW_TOML)
    tiny_models.package(models, "picture", 1, tiny_models.image_model, IMAGE_TOML)
    tiny_models.package(models, "two", 1, tiny_models.two_inputs)
    tiny_models.package(models, "text", 1, tiny_models.string_model)
    tiny_models.package(models, "nan", 1, tiny_models.nan_model)
    tiny_models.package(models, "sulky", 1, tiny_models.fails_on)
    env = {"GLASSAI_MODELS_VERSIONS": "all", "GLASSAI_IMAGES_PIXELS_MAX": "10000"}
    with LiveServer(models, [], env) as running:
        yield running


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_the_source_documents_own_request(bundled_server: LiveServer) -> None:
    body = call(
        "lstm_defect_predictor",
        {
            "timestamp": "2025-12-05T10:00:00Z",
            "furnace_temperature": 1550.0,
            "belt_speed": 150.0,
            "pressure": 15.5,
        },
    )
    reply = bundled_server.post(STREAM, body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    answer = reply.json
    assert answer["prediction_id"].startswith("pred_")
    assert (answer["model_name"], answer["model_version"]) == ("lstm_defect_predictor", "1")
    result = answer["result"]
    assert 0 < result["defect_probability"] < 1
    assert 0 < result["confidence"] < 1
    assert result["processing_time_ms"] > 0
    assert result["real_rows"] == 1
    assert bundled_server.post(STREAM, body).json["prediction_id"] != answer["prediction_id"]


def test_the_bundled_image_model_names_a_defect(bundled_server: LiveServer) -> None:
    reply = bundled_server.call(
        "POST", f"{STREAM}?model_name=vit_defect_detector", png(300), {"content-type": "image/png"}
    )
    result = reply.json["result"]
    assert result["defect_type"] in ("none", "bubble", "crack", "scratch", "inclusion")
    assert result["confidence"] == pytest.approx(max(result["probabilities"].values()), abs=1e-6)
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_the_highest_version_answers_unless_another_is_named(server: LiveServer) -> None:
    assert server.post(STREAM, call("window", row())).json["model_version"] == "2"
    assert server.post(STREAM, call("window", row(), model_version="1")).json["model_version"] == "1"
    assert server.post(STREAM, call("window", row(), model_version=1)).json["model_version"] == "1"


def test_a_line_is_judged_over_its_rows(server: LiveServer) -> None:
    for minute, value in enumerate([0.0, 0.4, 0.8]):
        body = call("window", row(value, timestamp=f"2025-12-05T10:{minute:02}:00Z"), stream_id="line 1")
        result = server.post(STREAM, body).json["result"]
    assert result["real_rows"] == 3
    mean = (0 + 0 + 0.4 + 0.8) / 12
    assert result["defect_probability"] == pytest.approx(1 / (1 + np.exp(-mean)), rel=1e-6)
    assert result["confidence"] == pytest.approx(result["defect_probability"] * 0.8, abs=1e-6)


def test_a_retry_a_conflict_and_a_missing_value_on_a_line(server: LiveServer) -> None:
    first = call("window", row(0.3, timestamp="2025-12-05T10:00:00Z"), stream_id="line 2")
    answer, again = server.post(STREAM, first).json["result"], server.post(STREAM, first).json["result"]
    for result in (answer, again):
        del result["processing_time_ms"]
    assert answer == again
    other = call("window", row(0.4, timestamp="2025-12-05T10:00:00Z"), stream_id="line 2")
    reply = server.post(STREAM, other)
    assert (reply.status, reply.json["reason"]) == (409, "row_conflict")
    assert reply.json["details"][0]["field"] == "data.furnace_temperature"
    gap = call("window", row(None, timestamp="2025-12-05T10:01:00Z"), stream_id="line 2")
    assert server.post(STREAM, gap).json["result"]["input_quality"] == pytest.approx(5 / 6, abs=1e-6)


def test_a_late_row_is_answered_while_its_window_is_held(server: LiveServer) -> None:
    for minute in range(50):
        body = call("window", row(0.01 * minute, timestamp=f"2025-12-05T10:{minute:02}:00Z"), stream_id="line 3")
        assert server.post(STREAM, body).status == 200
    late = call("window", row(0.5, timestamp="2025-12-05T10:40:30Z"), stream_id="line 3")
    mean = (0.38 + 0.39 + 0.40 + 0.5) / 12
    result = server.post(STREAM, late).json["result"]
    assert result["defect_probability"] == pytest.approx(1 / (1 + np.exp(-mean)), rel=1e-5)
    reply = server.post(STREAM, call("window", row(timestamp="2025-12-05T10:03:30Z"), stream_id="line 3"))
    assert (reply.status, reply.json["reason"]) == (422, "row_too_late")


def test_an_image_comes_raw_or_as_base64(server: LiveServer) -> None:
    raw = server.call("POST", f"{STREAM}?model_name=picture&model_version=1", png(), {"content-type": "image/png"})
    text = server.post(STREAM, call("picture", {"image": base64.b64encode(png()).decode()}))
    assert raw.status == text.status == 200
    assert raw.json["result"]["probabilities"] == text.json["result"]["probabilities"]
    assert set(raw.json["result"]) == {"defect_type", "confidence", "probabilities", "processing_time_ms"}


def test_a_model_without_a_description_takes_and_gives_its_tensors(server: LiveServer) -> None:
    reply = server.post(STREAM, call("two", {"a": [[1, 2], [3, 4]], "b": [[10, 20], [30, 40]]}))
    assert reply.json["result"] == {"sum": [[11, 22], [33, 44]], "product": [[10, 40], [90, 160]]}
    reply = server.post(STREAM, call("text", {"name": ["crack", "Glas"]}))
    assert reply.json["result"] == {"label": [2, -1], "echo": ["crack", "Glas"]}


@pytest.mark.parametrize(("name", "value"), [("X-Priority", "urgent"), ("X-Timeout-Ms", "-5")])
def test_a_header_that_cannot_be_honoured_is_refused_on_both_routes(server: LiveServer, name: str, value: str) -> None:
    own = server.post(STREAM, call("window", row()), {name: value})
    assert (own.status, own.json["details"][0]["field"]) == (422, name)
    oip = server.post("/v2/models/window/infer", b"{}", {name: value})
    assert oip.status == 400
    assert name in oip.json["error"]


def test_header_and_body_have_to_agree_and_a_refused_row_leaves_no_trace(server: LiveServer) -> None:
    body = call("window", row(0.5), stream_id="agree", priority="low", timeout_ms=5000)
    refused = server.post(STREAM, body, {"X-Priority": "high"})
    assert (refused.status, refused.json["details"][0]["field"]) == (422, "priority")
    taken = server.post(STREAM, body, {"X-Priority": "low"})
    assert (taken.status, taken.json["result"]["real_rows"]) == (200, 1)


def test_a_body_without_a_content_type_is_json(server: LiveServer) -> None:
    assert server.call("POST", STREAM, json.dumps(call("window", row())).encode()).status == 200
    assert server.post(STREAM, call("window", row()), {"content-type": "Application/JSON; charset=utf-8"}).status == 200


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "malformed": (b'{"model_name":', 400, "malformed_body", None),
    "NaN literal": (b'{"model_name":"window","data":{"pressure":NaN}}', 400, "malformed_body", None),
    "nested": (b'{"model_name":"window","data":{"a":' + b"[" * 50_000, 400, "malformed_body", None),
    "wrong type": (call("window", [1]), 400, "malformed_body", "data"),
    "unknown field": (call("window", row(), stream="L1"), 400, "unknown_field", "stream"),
    "unknown sensor": (call("window", row(presure=1.0)), 400, "unknown_field", "data.presure"),
    "unknown model": (call("windw", row()), 404, "model_not_found", "model_name"),
    "unknown version": (call("window", row(), model_version="3"), 404, "version_not_found", "model_version"),
    "no version": (call("window", row(), model_version="new"), 400, "malformed_body", "model_version"),
    "missing value": (call("window", {}), 422, "invalid_values", "data.furnace_temperature"),
    "text": (call("window", row("0.5")), 422, "invalid_values", "data.furnace_temperature"),
    "out of range": (call("window", row(1.5)), 422, "invalid_values", "data.furnace_temperature"),
    "timestamp": (call("window", row(timestamp="noon")), 422, "invalid_values", "data.timestamp"),
    "deep value": (
        b'{"model_name":"window","data":{"belt_speed":' + b"[" * 60 + b"]" * 60 + b"}}",
        422,
        "invalid_values",
        "data.belt_speed",
    ),
    "many names": (call("window", {f"x{i}": 1 for i in range(20_000)}), 400, "unknown_field", "data.x0"),
    "long name": (call("window", {"x" * 10**6: 1}), 400, "unknown_field", None),
    "long model name": (call("x" * 10**6, row()), 404, "model_not_found", "model_name"),
    "no line": (call("window", row(), stream_id=""), 422, "invalid_values", "stream_id"),
    "no priority": (call("window", row(), priority="urgent"), 422, "invalid_values", "priority"),
    "no time": (call("window", row(), timeout_ms=0), 422, "invalid_values", "timeout_ms"),
    "too much time": (call("window", row(), timeout_ms=1e9), 422, "invalid_values", "timeout_ms"),
    "time as text": (call("window", row(), timeout_ms="5"), 400, "malformed_body", "timeout_ms"),
    "line of pictures": (call("picture", {"image": ""}, stream_id="L1"), 400, "unknown_field", "stream_id"),
    "no image": (call("picture", {}), 422, "invalid_values", "data.image"),
    "no base64": (call("picture", {"image": "?"}), 422, "invalid_values", "data.image"),
    "no picture": (call("picture", {"image": "aGVsbG8="}), 415, "unsupported_media_type", "image"),
    "half a picture": (
        call("picture", {"image": base64.b64encode(png()[:50]).decode()}),
        422,
        "invalid_image",
        "image",
    ),
    "large picture": (call("picture", {"image": base64.b64encode(png(101)).decode()}), 413, "too_large", "image"),
    "missing input": (call("two", {"a": [[1, 2]]}), 422, "invalid_values", "data.b"),
    "extra input": (call("two", {"a": [[1, 2]], "b": [[1, 2]], "c": 1}), 400, "unknown_field", "data.c"),
    "wrong rank": (call("two", {"a": [1, 2], "b": [[1, 2]]}), 422, "invalid_values", "data.a"),
    "wrong shape": (call("two", {"a": [[1, 2]], "b": [[1, 2, 3]]}), 422, "invalid_tensor", "b.shape[1]"),
    "inputs that only the model rejects": (call("sulky", {"x": [[13.0]]}), 422, "inputs_rejected", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_callers_fault_is_named_with_what_is_accepted(server: LiveServer, name: str) -> None:
    body, status, reason, field = REFUSED[name]
    reply = server.post(STREAM, body)
    assert (reply.status, reply.json["reason"]) == (status, reason), reply.body
    assert set(reply.json) == {"error", "reason", "details"}
    assert len(reply.body) < 10_000  # whatever was sent
    if field is not None:
        assert field in [fault["field"] for fault in reply.json["details"]]
        assert all(fault["given"] and fault["accepted"] for fault in reply.json["details"])


def test_an_answer_that_is_not_finite_is_never_given(server: LiveServer) -> None:
    reply = server.post(STREAM, call("nan", {"x": [[-1.0]]}))
    assert (reply.status, reply.json["reason"]) == (500, "non_finite_output")


@pytest.mark.parametrize(
    ("query", "content_type", "status", "field"),
    [
        ("", "image/png", 422, "query.model_name"),
        ("?model_name=picture&size=9", "image/png", 400, "query.size"),
        ("?model_name=picture&model_version=x", "image/png", 400, "model_version"),
        ("?model_name=nothing", "image/png", 404, "model_name"),
        ("?model_name=picture&priority=9", "image/png", 422, "priority"),
        ("?model_name=picture&timeout_ms=soon", "image/png", 422, "timeout_ms"),
        ("?model_name=window", "image/png", 415, "content-type"),
        ("?model_name=picture", "image/gif", 415, "content-type"),
        ("?model_name=picture", "application/json", 400, "query.model_name"),
    ],
)
def test_a_raw_image_has_to_say_what_it_is_and_for_whom(
    server: LiveServer, query: str, content_type: str, status: int, field: str
) -> None:
    reply = server.call("POST", STREAM + query, png(), {"content-type": content_type})
    assert (reply.status, reply.json["details"][0]["field"]) == (status, field)


def test_every_error_that_a_caller_can_meet_has_its_status() -> None:
    def classes(base: type[InferenceError]) -> set[type[InferenceError]]:
        known = [child for child in base.__subclasses__() if child.__module__ == errors.__name__]
        return {base}.union(*(classes(child) for child in known))

    met = {error.reason for error in classes(InferenceError) - classes(StartError)}
    assert met == STATUS_BY_REASON.keys()


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, "application/json"), (b"image/PNG", "image/png"), (b" text/plain ; charset=x", "text/plain"), (b"", "")],
)
def test_a_content_type_is_read_without_its_parameters(header: bytes | None, expected: str) -> None:
    assert media_type(header) == expected


def test_the_page_about_the_api_lists_every_error_with_its_status() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = {reason: int(status) for reason, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE)}
    assert listed == STATUS_BY_REASON
