"""One meaning of a number: the same rows give the same probability through every door."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference import Predictor
from inference.tensor import Array
from tests.inference.live_server import ROOT, LiveServer

LSTM = ROOT / "models" / "lstm_defect_predictor"
VIT = ROOT / "models" / "vit_defect_detector"
SENSORS = ("furnace_temperature", "belt_speed", "pressure")
TOLERANCE = 1e-6  # a row in a batch against the row alone: the order of additions may differ in the last bits


def example(model: str, tensor: str) -> Array:
    with np.load(ROOT / "models" / model / "1" / "example.npz") as arrays:
        return arrays[tensor]


def open_inference_json(server: LiveServer, model: str, tensor: str, rows: Array, output: str) -> Array:
    datatype = {"float32": "FP32", "uint8": "UINT8"}[str(rows.dtype)]
    given = {"name": tensor, "shape": list(rows.shape), "datatype": datatype, "data": rows.ravel().tolist()}
    (found,) = server.post(f"/v2/models/{model}/infer", {"inputs": [given]}).json["outputs"]
    assert found["name"] == output
    return np.array(found["data"]).reshape(found["shape"])


def open_inference_binary(server: LiveServer, model: str, tensor: str, rows: Array) -> Array:
    datatype = {"float32": "FP32", "uint8": "UINT8"}[str(rows.dtype)]
    parameters = {"binary_data_size": rows.nbytes}
    given = {"name": tensor, "shape": list(rows.shape), "datatype": datatype, "parameters": parameters}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    reply = server.post(f"/v2/models/{model}/infer", head + rows.tobytes(), headers)
    length = int(reply.headers["inference-header-content-length"])
    (found,) = json.loads(reply.body[:length])["outputs"]
    return np.frombuffer(reply.body[length:], np.float32).reshape(found["shape"])


def stream_line(server: LiveServer, stream_id: str, window: Array) -> dict[str, Any]:
    """The answer to the last row of a window that is sent row by row, as a line's rows come."""
    for second, row in enumerate(window.tolist()):
        fields = dict(zip(SENSORS, row, strict=True)) | {"timestamp": f"2025-12-05T10:00:{second:02d}Z"}
        body = {"model_name": "lstm_defect_predictor", "stream_id": stream_id, "data": fields}
        reply = server.post("/api/inference/stream", body)
        assert reply.status == 200, reply.body
    assert reply.json["result"]["real_rows"] == len(window)
    return reply.json["result"]


def test_sensor_rows_give_one_probability_through_every_door(bundled_server: LiveServer):
    windows = example("lstm_defect_predictor", "rows")[:6]
    with Predictor(LSTM) as predictor:
        wanted = predictor.predict_many(windows).probabilities
        alone = [predictor.predict(window) for window in windows]
        rows = [dict(zip(SENSORS, row, strict=True)) for row in windows[0].tolist()]
        from_rows = predictor.predict(rows)
    assert wanted.std() > 1e-3, "the example windows are too much alike to show anything"
    np.testing.assert_allclose([result.defect_probability for result in alone], wanted, atol=TOLERANCE)
    assert from_rows.defect_probability == pytest.approx(wanted[0], abs=TOLERANCE)
    model, output = "lstm_defect_predictor", "defect_probability"
    found = open_inference_json(bundled_server, model, "rows", windows, output)
    np.testing.assert_allclose(found.ravel(), wanted, atol=TOLERANCE)
    found = open_inference_binary(bundled_server, model, "rows", windows)
    np.testing.assert_allclose(found.ravel(), wanted, atol=TOLERANCE)
    for number, window in enumerate(windows[:3]):
        result = stream_line(bundled_server, f"same-{number}", window)
        assert result["defect_probability"] == pytest.approx(wanted[number], abs=TOLERANCE)
        assert result["confidence"] == pytest.approx(alone[number].confidence, abs=TOLERANCE)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_picture_gives_one_answer_through_every_door(bundled_server: LiveServer, kind: str):
    pixels = example("vit_defect_detector", "pixels")[3]
    file = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).save(file, kind, quality=95)
    raw = file.getvalue()
    with Predictor(VIT) as predictor:
        wanted = predictor.predict(raw)
    assert sum(wanted.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    encoded = base64.b64encode(raw).decode()
    body = {"model_name": "vit_defect_detector", "data": {"image": encoded}}
    answers = [
        bundled_server.post("/api/inference/stream", body),
        bundled_server.call(
            "POST",
            "/api/inference/stream?model_name=vit_defect_detector",
            raw,
            {"content-type": f"image/{kind}"},
        ),
    ]
    for reply in answers:
        assert reply.status == 200, reply.body
        result = reply.json["result"]
        assert result["defect_type"] == wanted.defect_type
        assert result["confidence"] == pytest.approx(wanted.confidence, abs=TOLERANCE)
        for label, probability in wanted.probabilities.items():
            assert result["probabilities"][label] == pytest.approx(probability, abs=TOLERANCE)


def test_pixels_give_one_answer_through_every_door(bundled_server: LiveServer):
    pixels = example("vit_defect_detector", "pixels")
    with Predictor(VIT) as predictor:
        alone = [predictor.predict(picture) for picture in pixels]
    wanted = np.array([list(result.probabilities.values()) for result in alone])
    model = "vit_defect_detector"
    np.testing.assert_allclose(open_inference_binary(bundled_server, model, "pixels", pixels), wanted, atol=1e-5)
    found = open_inference_json(bundled_server, model, "pixels", pixels[:2], "probabilities")
    np.testing.assert_allclose(found, wanted[:2], atol=1e-5)
