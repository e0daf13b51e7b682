"""The servers under test, each on the server's core and configured for its best."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.bench import BUNDLED, PROFILES, SERVER_CORE
from benchmarks.environments import peer_python
from benchmarks.questions import bundled_file, model_file
from benchmarks.server import Server

APPS = Path(__file__).parent / "peers"
KNEES_LIMIT_S = 60.0
MOSEC_BATCH = 32


@dataclass(frozen=True)
class Peer:
    """Another way to serve the LSTM; `mosec`: one of the settings of mosec."""

    name: str
    start: Callable[[], Server]
    mosec: bool = False


def our_server(
    models: Path, core: int | None = SERVER_CORE, name: str = "glassai", settings: Mapping[str, str] | None = None
) -> Server:
    """The server as `glassai serve` starts it, with a profile cache of its own."""
    command = [sys.executable, "-m", "inference.streaming_predictor", "--models", str(models), "--port", "PORT"]
    environment = {"GLASSAI_RUNTIME_PROFILE_CACHE": str(profiles_of(models)), **(settings or {})}
    return Server(name, command, environment, core)


def profiles_of(models: Path) -> Path:
    """Where the server of this models folder keeps the batch sizes that it has measured."""
    return PROFILES / ("bundled" if models == BUNDLED else "own")


def wait_for_knees(server: Server) -> dict[str, int]:
    """Rows of a batch of each model, once the server has measured them, which it does on idle runners."""
    end = time.monotonic() + KNEES_LIMIT_S
    while True:
        models = msgspec.json.decode(server.get("/api/models"))["models"]
        knees = {m["name"]: m["batching"] for m in models if m["batching"] is not None}
        if all(one["rows_max_from"] != "probe" or not one["batched"] for one in knees.values()):
            return {name: one["rows_max"] if one["batched"] else 1 for name, one in knees.items()}
        if time.monotonic() > end:
            raise RuntimeError(f"the server has not measured its batch sizes within {KNEES_LIMIT_S:g} s: {knees}")
        time.sleep(0.1)


def constant_server() -> Server:
    """The constant route: bare ASGI on uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.constant_app:app", "--port", "PORT"]
    return Server("constant", [*command, "--no-access-log", "--log-level", "warning"])


def constant_protocol() -> Server:
    """The fastest constant that Python has, to find the generator's own limit."""
    return Server("constant-protocol", [sys.executable, "-m", "benchmarks.constant_protocol", "PORT"])


def fastapi_server() -> Server:
    """FastAPI and ONNX Runtime as people write it."""
    command = [str(peer_python("fastapi")), "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(APPS)]
    environment = {"LSTM_ONNX": str(model_file("lstm")), "DEFECTS_ONNX": str(bundled_file("lstm_defect_predictor"))}
    return Server("fastapi", [*command, "--no-access-log", "--log-level", "warning", "--port", "PORT"], environment)


def mosec_server(batch_rows: int, window_ms: int) -> Server:
    """mosec with msgspec and one worker."""
    command = [str(peer_python("mosec")), str(APPS / "mosec_app.py"), "--address", "127.0.0.1", "--port", "PORT"]
    environment = {"LSTM_ONNX": str(model_file("lstm")), "BATCH_ROWS": str(batch_rows), "WINDOW_MS": str(window_ms)}
    return Server(f"mosec-{batch_rows}-{window_ms}", [*command, "--log-level", "warning"], environment)


FASTAPI = Peer("FastAPI + onnxruntime", fastapi_server)
PEERS = (
    Peer("mosec, 2 ms", lambda: mosec_server(MOSEC_BATCH, 2), mosec=True),
    Peer("mosec, 1 ms", lambda: mosec_server(MOSEC_BATCH, 1), mosec=True),
    Peer("mosec, no batching", lambda: mosec_server(1, 1), mosec=True),
    FASTAPI,
)
