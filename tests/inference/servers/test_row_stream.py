"""What opens a stream and what a message of it begins; in one process, without a socket."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from inference.errors import CallerError, InvalidValues, Stopping, TooLarge, UnknownField, UnsupportedMedia
from inference.request import Priority
from inference.runtime.session import OnnxSessionProvider
from inference.servers.exchange import Exchange, Message, Pending
from inference.servers.http import App
from inference.settings import QueueSettings, ServerSettings
from tests.inference import tiny_models
from tests.inference.servers.test_inference_api import IMAGE_TOML, WINDOW_TOML, png
from tests.inference.servers.test_inference_api_load import served

ROW = b'{"furnace_temperature": 0.5, "belt_speed": 0, "pressure": 0}'


def models(folder: Path) -> Path:
    tiny_models.package(folder, "window", 1, tiny_models.window_model, WINDOW_TOML)
    tiny_models.package(folder, "picture", 1, tiny_models.image_model, IMAGE_TOML)
    return folder


def exchange(app: App, headers: dict[bytes, bytes] | None = None, **query: str) -> Exchange:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope = {"type": "websocket", "method": "WS", "path": "/", "query_string": urlencode(query).encode()}
    return app.exchange(scope, headers or {}, receive, send, {})


async def test_a_row_enters_its_line_when_it_is_begun(tmp_path: Path) -> None:
    async with served(models(tmp_path), OnnxSessionProvider(), QueueSettings()) as app:
        opened = exchange(app, {b"x-timeout-ms": b"5000"}, model_name="window", stream_id="L1", priority="high")
        query = app.stream_rows.open(opened)
        for known in (1, 2, 3):
            pending = app.stream_rows.begin(opened, query, ROW, is_text=True)
            assert isinstance(pending, Pending)
            assert pending.request.priority is Priority.HIGH
            assert pending.request.deadline_s == pytest.approx(opened.now() + 5, abs=1)
            prediction = await app.engine.predict(pending.request)
            assert f'"real_rows":{known}'.encode() in pending.respond(prediction).body


async def test_a_picture_is_awaited(tmp_path: Path) -> None:
    async with served(models(tmp_path), OnnxSessionProvider(), QueueSettings()) as app:
        opened = exchange(app, model_name="picture", model_version="1")
        begun = app.stream_rows.begin(opened, app.stream_rows.open(opened), png(), is_text=False)
        assert isinstance(begun, Awaitable)
        assert (await begun).request.inputs["pixels"].shape == (1, 4, 4, 3)


async def test_what_cannot_be_honoured_is_refused(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, str], type[CallerError]]] = [
        ({"model_name": "window", "stream_id": "x" * 129}, InvalidValues),
        ({"model_name": "picture", "stream_id": "L1"}, UnknownField),
    ]
    async with served(models(tmp_path), OnnxSessionProvider(), QueueSettings()) as app:
        for fields, error in refused:
            with pytest.raises(error, match="stream_id"):
                app.stream_rows.open(exchange(app, **fields))
        opened = exchange(app, model_name="window")
        query = app.stream_rows.open(opened)
        with pytest.raises(UnsupportedMedia, match="binary"):
            app.stream_rows.begin(opened, query, ROW, is_text=False)
        with pytest.raises(TooLarge, match="binary message"):
            app.stream_rows.begin(opened, query, b" " * (ServerSettings().json_bytes_max + 1), is_text=True)


async def test_a_server_that_stops_opens_no_stream(tmp_path: Path) -> None:
    async with served(models(tmp_path), OnnxSessionProvider(), QueueSettings()) as app:
        opened = exchange(app, model_name="window")
        assert await app.engine.drain(5.0)
        with pytest.raises(Stopping):
            app.stream_rows.open(opened)
