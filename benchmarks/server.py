"""A server under test: started on its core, watched until it answers right, and stopped."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from benchmarks.bench import BENCH, SERVER_CORE, one_thread, pinned

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.002
JSON_BODY = {"Content-Type": "application/json"}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A server process. `command` holds the word PORT where its port goes; `core` None leaves it unpinned."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    core: int | None = SERVER_CORE
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0

    def __enter__(self) -> Server:
        BENCH.mkdir(exist_ok=True)
        log = self.log.open("wb")
        command = [part.replace("PORT", str(self.port)) for part in self.command]
        prefix = pinned(self.core) if self.core is not None else []
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(
            [*prefix, *command], env={**one_thread(), **self.environment}, stdout=log, stderr=log
        )
        log.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is not None:
            print(f"{self.name} ended by itself with status {self.process.returncode}; its log: {self.log}")
        elif self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return BENCH / f"{self.name}.log"

    @property
    def url(self) -> str:
        """Root of the server."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send one POST; status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> bytes:
        """Body of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def wait(
        self, path: str, body: bytes, right: Callable[[bytes], bool], headers: Mapping[str, str] = JSON_BODY
    ) -> float:
        """Ask until the first answer, which has to be right. Returns the seconds since the process was started."""
        assert self.process is not None
        last: object = None
        end_s = time.perf_counter() + START_LIMIT_S
        while time.perf_counter() < end_s and self.process.poll() is None:
            try:
                status, last = self.ask(path, body, headers)
                if status == 200:
                    if not right(last):
                        raise RuntimeError(f"{self.name} answers wrongly: {last!r}")
                    return time.perf_counter() - self.started_s
            except (OSError, http.client.HTTPException) as error:
                last = error
            time.sleep(POLL_S)
        said = self.log.read_text(errors="replace")[-1500:]
        raise RuntimeError(f"{self.name} did not answer (last: {last!r}):\n{said}")

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, MB of 10^6 bytes."""
        assert self.process is not None
        return sum(resident_kib(pid) for pid in [self.process.pid, *children(self.process.pid)]) * 1024 / 1e6


def resident_kib(pid: int) -> int:
    """VmRSS of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def children(pid: int) -> list[int]:
    """Process ids of all descendants."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found
