"""What each door loads: modules, megabytes, sockets. Each in a fresh interpreter, as an operator starts it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.inference.house.source import ROOT

# Only where a document is made or a table is drawn; never on the way to a prediction.
OFFLINE = frozenset({"typer", "rich", "pydantic", "click", "pyarrow", "sqlalchemy", "matplotlib", "onnx", "httpx2"})
HTTP = frozenset({"starlette", "uvicorn", "structlog", "httptools", "anyio", "prometheus_client"})
PREPARED = frozenset({"numpy", "onnxruntime", "msgspec", "PIL"})

LOOK = """
import json, sys
def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
before_mb, before = resident_mb(), set(sys.modules)
import {door}
names = set(sys.modules) - before
print(json.dumps({{"modules": sorted(names), "mb": resident_mb() - before_mb}}))
"""


@dataclass(frozen=True)
class Door:
    """A module that people import or start, what it must not load, and its bounds."""

    name: str
    never: frozenset[str]
    modules_max: int
    mb_max: float


DOORS = [
    Door("inference", OFFLINE | HTTP | PREPARED | {"asyncio"}, 10, 3),
    Door("inference.predictor", OFFLINE | HTTP | {"asyncio", "PIL"}, 500, 75),
    Door("inference.cli", PREPARED | HTTP | {"pyarrow", "sqlalchemy", "matplotlib", "onnx"}, 700, 60),
]


def look(door: str) -> tuple[set[str], float]:
    """Modules that importing `door` adds, and resident megabytes."""
    command = [sys.executable, "-c", LOOK.format(door=door)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    return set(seen["modules"]), seen["mb"]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_door_loads_only_what_it_needs(door: Door) -> None:
    names, mb = look(door.name)
    assert {name.split(".")[0] for name in names} & door.never == set()
    assert len(names) <= door.modules_max
    assert mb <= door.mb_max


def test_the_package_root_loads_no_room() -> None:
    names, _ = look("inference")
    assert {name for name in names if name.startswith("inference")} == {"inference"}


def test_what_is_forbidden_would_be_seen() -> None:
    names, mb = look("numpy")
    assert "numpy" in names
    assert mb > 1


# uvicorn imports click, and structlog imports rich where it is installed (5 MB).
SERVING = Door("inference.streaming_predictor", OFFLINE - {"click", "rich"}, 800, 120)
LSTM_REQUEST = (
    b'{"model_name":"lstm_defect_predictor","data":{"timestamp":"2025-12-05T10:00:00Z",'
    b'"furnace_temperature":1550.0,"belt_speed":150.0,"pressure":15.5}}'
)
START_LIMIT_S = 60.0


def ask(port: int) -> int:
    """Status of one prediction; 0 while nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/api/inference/stream", LSTM_REQUEST, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def serve_once(log: Path) -> tuple[set[str], float]:
    """Start the server as an operator does, take one prediction, stop it; modules that it loaded, and resident MB."""
    options = ["--models", "models", "--port", "0"]
    with log.open("w") as imports:
        server = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", SERVING.name, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=imports,
            text=True,
        )
    try:
        assert server.stdout is not None
        port = next(int(found[1]) for line in server.stdout if (found := re.search(r"http://localhost:(\d+)", line)))
        end = time.monotonic() + START_LIMIT_S
        while (status := ask(port)) != 200:
            assert server.poll() is None
            assert time.monotonic() < end, f"the last answer had status {status}"
            time.sleep(0.02)
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        mb = next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 0
    found = re.findall(r"^import time: .*\| +([\w.]+)$", log.read_text(), re.MULTILINE)
    return set(found), mb


def test_the_serving_door_loads_only_what_it_needs(tmp_path: Path) -> None:
    names, mb = serve_once(tmp_path / "imports.txt")
    assert {"uvicorn", "numpy", "inference.engine"} <= names
    assert {name for name in names if name.startswith("inference.runtime.child_")} == set()  # no model asks for it
    assert {name.split(".")[0] for name in names} & SERVING.never == set()
    assert len(names) <= SERVING.modules_max
    assert mb <= SERVING.mb_max


WATCH = """
import os, sys, time
{statement}
sockets = set()
end = time.monotonic() + 3  # ONNX Runtime starts to report within its first second
while time.monotonic() < end:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{{descriptor}}")
        except OSError:
            continue
        if target.startswith("socket:"):
            sockets.add(target)
    time.sleep(0.05)
print(len(sockets))
"""


def can_unshare() -> bool:
    """Whether this machine lets us make a namespace without network."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


def watch(statement: str, home: Path) -> tuple[int, list[str]]:
    """Run a statement where no network is; sockets that are opened, and files that are left in the home folder."""
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", WATCH.format(statement=statement)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), [str(path) for path in home.rglob("*") if path.is_file()]


LOAD_MODEL = """
from pathlib import Path
from inference.runtime.session import OnnxSessionProvider
from inference.settings import RuntimeSettings
onnx_file = Path("models/lstm_defect_predictor/1/model.onnx").resolve()
session = OnnxSessionProvider().load(onnx_file, RuntimeSettings())
"""
needs_namespace = pytest.mark.skipif(not can_unshare(), reason="no unprivileged network namespaces here")


@needs_namespace
def test_a_loaded_model_reports_to_nobody(tmp_path: Path) -> None:
    assert watch(LOAD_MODEL, tmp_path) == (0, [])


OPEN_LATE = """
import socket, threading
from pathlib import Path
opened = []
threading.Timer(1.0, lambda: opened.append(socket.socket())).start()
(Path.home() / "report").write_text("written")
"""


@needs_namespace
def test_the_watch_sees_a_late_socket_and_a_file(tmp_path: Path) -> None:
    assert watch(OPEN_LATE, tmp_path) == (1, [str(tmp_path / "report")])
