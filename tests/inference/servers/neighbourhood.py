"""Several server processes in one: each with its engine, its models and its socket, on one loop and without HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.decisions.line_owner import owner_of
from inference.engine import Engine
from inference.model import Signature
from inference.model_manager import ModelManager
from inference.monitoring.logs import PredictionLog
from inference.monitoring.metrics import Metrics
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.servers.exchange import Message
from inference.servers.handover import Neighbours
from inference.servers.http import App
from inference.servers.inference_api import InferenceApi
from inference.servers.metrics_page import MetricsPage
from inference.servers.routes import build_app
from inference.settings import LoggingSettings, ModelsSettings, RuntimeSettings, ServerSettings, Settings
from inference.tensor import Tensors, TensorSpec
from tests.inference import tiny_models
from tests.inference.servers.test_inference_api import STREAM, WINDOW_TOML

SIGNATURE = Signature((TensorSpec("rows", "FP32", (1, 4, 3)),), (TensorSpec("defect_probability", "FP32", (1, 1)),))


@dataclass
class Process:
    """What one process consists of."""

    app: App
    engine: Engine
    models: ModelManager
    neighbours: Neighbours


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: Any


def mean_of_the_first_sensor(inputs: Tensors) -> Tensors:
    return {"defect_probability": inputs["rows"][:, :, :1].mean(axis=1)}


def package(folder: Path) -> Path:
    """A models folder with the model `window`, whose sessions the tests make."""
    tiny_models.package(folder, "window", 1, tiny_models.window_model, WINDOW_TOML)
    return folder


@asynccontextmanager
async def process(
    models: Path, sockets: Path, own: int, run: Any = mean_of_the_first_sensor, **server: Any
) -> AsyncIterator[Process]:
    """Process `own` of two; its model answers with what `run` gives. Without a batch axis nothing is measured."""
    settings = Settings(
        server=ServerSettings(processes=2, **server),
        models=ModelsSettings(folder=str(models)),
        runtime=RuntimeSettings(profile_cache=""),
        logging=LoggingSettings(level="DEBUG"),
    )
    engine, metrics = Engine(), Metrics()
    provider = FunctionSessionProvider({"window": FunctionSession(SIGNATURE, run)})
    manager = ModelManager(settings, engine, provider, metrics)
    manager.start()
    await until_served(manager)
    neighbours = Neighbours(own, 2, sockets, engine, PredictionLog(settings.logging))
    product = InferenceApi(manager, settings, engine.clock, neighbours)
    page = MetricsPage(metrics, neighbours, restarts=0)
    await neighbours.start(product.take_over, page.count)
    app = build_app(settings, engine, manager, metrics, product=product, metrics_page=page)
    try:
        yield Process(app, engine, manager, neighbours)
    finally:
        neighbours.stop()
        await engine.drain(5.0)
        await manager.stop()


async def until_served(manager: ModelManager) -> None:
    """Loaded, and the first canary answered, so that nobody but the test asks."""
    while any(status.answered_s is None for status in manager.index()):
        await asyncio.sleep(0)


def line_of(process: int) -> str:
    """A line that belongs to this process."""
    return next(name for name in map("L{}".format, range(100)) if owner_of("window", name, 2) == process)


async def ask(app: App, body: object, method: str = "POST", path: str = STREAM) -> Answered:
    """One request through the ASGI application, without a socket."""
    sent: list[Message] = []

    bodies = [json.dumps(body).encode()]

    async def receive() -> Message:
        if not bodies:
            await asyncio.Event().wait()  # the caller stays, and sends no more
        return {"type": "http.request", "body": bodies.pop()}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"x-request-id", b"the-callers")]
    await app({"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}, receive, send)
    headers_back = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = sent[1]["body"]
    return Answered(sent[0]["status"], headers_back, json.loads(text) if text.startswith(b"{") else text.decode())
