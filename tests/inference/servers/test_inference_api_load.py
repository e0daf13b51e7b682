"""`POST /api/inference/stream` when more comes than can be taken; in one process, without a socket."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inference.engine import Engine
from inference.model import Signature
from inference.model_manager import ModelManager
from inference.monitoring.metrics import Metrics
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.runtime.session import OnnxSessionProvider, SessionProvider
from inference.servers.exchange import Message
from inference.servers.http import App
from inference.servers.inference_api import IMAGES_WAITING_MAX
from inference.servers.routes import build_app
from inference.settings import ModelsSettings, QueueSettings, RuntimeSettings, Settings
from inference.tensor import Tensors, TensorSpec
from tests.inference import tiny_models
from tests.inference.servers.test_inference_api import IMAGE_TOML, STREAM, WINDOW_TOML, call, png, row


@dataclass
class Answered:
    status: int
    body: Any


async def ask(app: App, body: object) -> Answered:
    """One request through the ASGI application, without a socket."""
    sent: list[Message] = []
    bodies = [json.dumps(body).encode()]

    async def receive() -> Message:
        if not bodies:
            await asyncio.Event().wait()  # the caller stays, and sends no more
        return {"type": "http.request", "body": bodies.pop()}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": STREAM,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, receive, send)
    return Answered(sent[0]["status"], json.loads(sent[1]["body"]))


@asynccontextmanager
async def served(models: Path, provider: SessionProvider, queue: QueueSettings) -> AsyncIterator[App]:
    """The application over the models of a folder, all loaded."""
    settings = Settings(
        models=ModelsSettings(folder=str(models)), runtime=RuntimeSettings(profile_cache=""), queue=queue
    )
    engine = Engine()
    manager = ModelManager(settings, engine, provider, Metrics())
    manager.start()
    while not manager.readiness().ready:
        await asyncio.sleep(0)
    try:
        yield build_app(settings, engine, manager, Metrics())
    finally:
        await engine.drain(5.0)
        await manager.stop()


async def test_a_row_whose_request_is_refused_leaves_no_hole_in_its_line(tmp_path: Path) -> None:
    gate, held_back = threading.Event(), threading.Event()
    gate.set()

    def mean_of_the_first_sensor(inputs: Tensors) -> Tensors:
        if not gate.is_set():
            held_back.set()
            gate.wait(10)
        return {"defect_probability": inputs["rows"][:, :, :1].mean(axis=1)}

    # Without a batch axis no batch size is measured, so that nothing but the requests comes to the session.
    signature = Signature((TensorSpec("rows", "FP32", (1, 4, 3)),), (TensorSpec("defect_probability", "FP32", (1, 1)),))
    provider = FunctionSessionProvider({"window": FunctionSession(signature, mean_of_the_first_sensor)})
    tiny_models.package(tmp_path, "window", 1, tiny_models.window_model, WINDOW_TOML)
    async with served(tmp_path, provider, QueueSettings(rows_max=1)) as app:
        body = {i: call("window", row(i / 10, timestamp=f"2025-12-05T10:0{i}:00Z"), stream_id="L1") for i in range(4)}
        assert (await ask(app, body[0])).status == 200
        gate.clear()
        running = asyncio.create_task(ask(app, call("window", row())))
        await asyncio.to_thread(held_back.wait, 10)
        waiting = asyncio.create_task(ask(app, call("window", row())))
        await asyncio.sleep(0)
        refused = await ask(app, body[1])
        assert (refused.status, refused.body["reason"]) == (503, "queue_full")
        gate.set()
        assert [(await task).status for task in (running, waiting)] == [200, 200]
        answer = await ask(app, body[2])
        assert answer.body["result"]["real_rows"] == 3
        assert answer.body["result"]["defect_probability"] == pytest.approx((0 + 0 + 0.1 + 0.2) / 4, abs=1e-6)
        again = await ask(app, body[1])
        assert again.status == 200
        assert again.body["result"]["real_rows"] == 2


async def test_images_beyond_the_decoders_queue_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    tiny_models.package(tmp_path, "picture", 1, tiny_models.image_model, IMAGE_TOML)
    picture = call("picture", {"image": base64.b64encode(png()).decode()})
    async with served(tmp_path, OnnxSessionProvider(), QueueSettings()) as app:
        answers = await asyncio.gather(*(ask(app, picture) for _ in range(IMAGES_WAITING_MAX + 5)))
        assert sorted(answer.status for answer in answers) == [200] * IMAGES_WAITING_MAX + [503] * 5
        refused = next(answer for answer in answers if answer.status == 503)
        assert "images wait" in refused.body["error"]
        assert (await ask(app, picture)).status == 200
