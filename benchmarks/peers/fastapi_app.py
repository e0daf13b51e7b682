"""FastAPI and ONNX Runtime as people write it: a pydantic model, an async route, session.run. No batching.

Configured for its best: one ONNX Runtime thread on the one core that it has, uvloop and httptools, no access log.
"""

import os
import time
import uuid
from datetime import datetime

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel


def load(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


app = FastAPI()
lstm = load(os.environ["LSTM_ONNX"])
defects = load(os.environ["DEFECTS_ONNX"])


class Window(BaseModel):
    data: list[list[float]]


class SensorRow(BaseModel):
    timestamp: datetime
    furnace_temperature: float
    belt_speed: float
    pressure: float


class StreamRequest(BaseModel):
    model_name: str
    data: SensorRow


@app.post("/predict")
async def predict(window: Window):
    (output,) = lstm.run(None, {"input": np.array([window.data], dtype=np.float32)})
    return {"output": output.tolist()}


@app.post("/api/inference/stream")
async def stream(request: StreamRequest):
    started = time.perf_counter()
    row = [request.data.furnace_temperature, request.data.belt_speed, request.data.pressure]
    (output,) = defects.run(None, {"rows": np.array([[row] * 32], dtype=np.float32)})
    probability = float(output[0, 0])
    return {
        "prediction_id": f"pred_{uuid.uuid4().hex[:12]}",
        "result": {
            "defect_probability": probability,
            "confidence": max(probability, 1 - probability),
            "processing_time_ms": (time.perf_counter() - started) * 1000,
        },
    }
