"""What is sent: the same window as Open Inference Protocol JSON and as a plain list, and the product's own request."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import LSTM_SHAPE

SENSOR_ROW = {"furnace_temperature": 1550.0, "belt_speed": 150.0, "pressure": 15.5}


def window() -> NDArray[np.float32]:
    """One window of the LSTM, float32 [32, 3], four decimals, so that JSON carries it exactly enough for everybody."""
    return np.random.default_rng(3).uniform(0, 1, LSTM_SHAPE).round(4).astype(np.float32)


def compact(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def open_inference_body() -> bytes:
    """The window for /v2/models/lstm/infer."""
    flat = window().astype(np.float64).round(4).ravel().tolist()
    tensor = {"name": "input", "shape": [1, *LSTM_SHAPE], "datatype": "FP32", "data": flat}
    return compact({"inputs": [tensor]})


def binary_body(name: str, datatype: str, rows: NDArray[np.generic]) -> tuple[bytes, int]:
    """A tensor for the Open Inference Protocol in binary form, and the length of its JSON."""
    tensor = {"name": name, "shape": list(rows.shape), "datatype": datatype}
    text = compact({"inputs": [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}]})
    return text + rows.tobytes(), len(text)


def plain_body() -> bytes:
    """The window as a peer without a protocol takes it."""
    return compact({"data": window().astype(np.float64).round(4).tolist()})


def stream_body() -> bytes:
    """The request of the product's own API."""
    row = {"timestamp": "2025-12-05T10:00:00Z", **SENSOR_ROW}
    return compact({"model_name": "lstm_defect_predictor", "data": row})


def stream_window() -> NDArray[np.float32]:
    """The window that answers `stream_body`, float32 [1, 32, 3]: a line without history repeats its first row."""
    return np.tile(np.array(list(SENSOR_ROW.values()), np.float32), (1, LSTM_SHAPE[0], 1))
