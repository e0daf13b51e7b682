"""What is asked of the servers: the request, and what the right answer holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bare import BareSession
from benchmarks.bench import BENCH, BUNDLED
from benchmarks.load import JSON_TYPE, Target
from benchmarks.models import VIT_SHAPE, build_models
from benchmarks.payloads import binary_body, open_inference_body, plain_body, stream_body, stream_window, window
from benchmarks.server import Server

TOLERANCE = 1e-4  # float32 through JSON, and another thread's order of sums


@dataclass(frozen=True)
class Question:
    """One request, and the number that the answer has to hold."""

    path: str
    body: bytes
    number: Callable[[bytes], float]
    expected: float
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_TYPE)

    def right(self, answer: bytes) -> bool:
        """Whether the answer is the model's."""
        return bool(np.isclose(self.number(answer), self.expected, atol=TOLERANCE))

    def wait(self, server: Server) -> Target:
        """Ask the server until it answers, which has to be right; what to load it with then."""
        server.wait(self.path, self.body, self.right, self.headers)
        return Target(server.url + self.path, self.body, self.headers)


def bench_models() -> Path:
    """The benchmark's own models folder: lstm and vit, dropped in as they are."""
    return build_models(BENCH / "models")


def model_file(name: str) -> Path:
    """One of them."""
    return bench_models() / name / "1" / "model.onnx"


def bundled_file(name: str) -> Path:
    """A bundled model."""
    return BUNDLED / name / "1" / "model.onnx"


def first_output(answer: bytes) -> float:
    """First number of an Open Inference Protocol answer."""
    return json.loads(answer)["outputs"][0]["data"][0]


def defect_probability(answer: bytes) -> float:
    """The result of the product's own API."""
    return json.loads(answer)["result"]["defect_probability"]


def lstm() -> Question:
    """One window of 96 numbers as Open Inference Protocol JSON."""
    expected = BareSession(model_file("lstm")).run(window()[None])
    return Question("/v2/models/lstm/infer", open_inference_body(), first_output, float(expected[0, 0]))


def peer_lstm() -> Question:
    """The same window as a peer without a protocol takes it."""
    ours = lstm()
    return Question("/predict", plain_body(), lambda answer: float(json.loads(answer)["output"][0][0]), ours.expected)


def stream() -> Question:
    """One row of three sensors, as the product's own API takes it, to the bundled model."""
    expected = BareSession(bundled_file("lstm_defect_predictor")).run(stream_window())
    return Question("/api/inference/stream", stream_body(), defect_probability, float(expected[0, 0]))


def vit() -> Question:
    """A picture as float32 [1, 3, 64, 64] in binary form."""
    pixels = np.random.default_rng(5).uniform(0, 1, (1, *VIT_SHAPE)).astype(np.float32)
    return in_binary("vit", "input", "FP32", pixels, model_file("vit"))


def bundled_pixels() -> NDArray[np.uint8]:
    """The bundled image model's own example, uint8 [1, height, width, 3]."""
    with np.load(bundled_file("vit_defect_detector").with_name("example.npz")) as example:
        return np.ascontiguousarray(example["pixels"][:1])


def bundled_vit() -> Question:
    """That picture as uint8 pixels in binary form."""
    file = bundled_file("vit_defect_detector")
    return in_binary("vit_defect_detector", "pixels", "UINT8", bundled_pixels(), file)


def in_binary(model: str, name: str, datatype: str, rows: NDArray[np.generic], file: Path) -> Question:
    """One tensor in binary form; the right answer is that of bare `session.run`."""
    body, json_length = binary_body(name, datatype, rows)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(json_length)}
    expected = float(np.ravel(BareSession(file).run(rows))[0])
    return Question(f"/v2/models/{model}/infer", body, first_output, expected, headers)
