"""A server with several processes, as an operator starts it, and what a test wants to know of them."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.inference.live_server import LiveServer

LIMIT_S = 30.0


def until(what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for something that has to come; it is asked for, not slept for."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@contextmanager
def group(models: Path, *options: str, processes: int = 2, **env: str) -> Iterator[LiveServer]:
    """A server with its own folder for temporary files, all of whose processes are ready."""
    temporary = Path(tempfile.mkdtemp(prefix="g"))
    try:
        with LiveServer(models, ["--processes", str(processes), *options], {"TMPDIR": str(temporary), **env}) as server:
            until("not all processes are ready", lambda: ready(server, processes))
            yield server
            if server.process.poll() is None:
                assert server.stop() == 0
            assert left_behind(server) == []
    finally:
        shutil.rmtree(temporary)


def ready(server: LiveServer, processes: int) -> bool:
    """Whether every process serves every model; one that is just starting may not show all of them yet."""
    page = metrics(server)
    models = [value for sample, value in page.items() if sample.startswith("glassai_model_ready{")]
    everywhere = len(models) >= processes * len(list(server.models.glob("*/")))
    return page['glassai_processes{state="answering"}'] == processes and everywhere and all(models)


def metrics(server: LiveServer) -> dict[str, float]:
    """Every sample of the page by its name and labels."""
    reply = server.get("/metrics")
    assert reply.status == 200
    lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def total(page: dict[str, float], name: str) -> float:
    """The sum over all labels."""
    return sum(value for sample, value in page.items() if sample.split("{")[0] == name)


def children(server: LiveServer) -> list[psutil.Process]:
    """The serving processes, the oldest first."""
    return sorted(psutil.Process(server.process.pid).children(), key=lambda child: child.pid)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one whose end nobody has asked for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def number_of(server: LiveServer, child: psutil.Process) -> int:
    """Which of the processes this is, as the parent logged it."""
    found = re.search(rf"process (\d+) \(pid {child.pid}\) serves", server.line(f"(pid {child.pid}) serves"))
    assert found is not None
    return int(found[1])


def left_behind(server: LiveServer) -> list[str]:
    """Temporary files of the server's processes."""
    return sorted(path.name for path in Path(server.env["TMPDIR"]).rglob("*"))
