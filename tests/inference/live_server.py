"""A server as an operator starts it: a subprocess on a free port, asked over HTTP, stopped by SIGTERM."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 60.0


@dataclass
class Reply:
    """Status, headers (lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class LiveServer:
    """`with LiveServer(models) as server: server.get("/health/ready")`."""

    models: Path
    options: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    wait_ready: bool = True
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> LiveServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What the server has printed and logged so far."""
        return "".join(self.lines)

    def start(self) -> None:
        command = [sys.executable, "-m", "inference.streaming_predictor", "--models", str(self.models), "--port", "0"]
        env = {**os.environ, "GLASSAI_RUNTIME_PROFILE_CACHE": "", "PYTHONUNBUFFERED": "1", **self.env}
        self.process = subprocess.Popen(
            [*command, *self.options], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._listening = threading.Event()
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()
        try:
            assert self._listening.wait(START_LIMIT_S), f"the server did not start:\n{self.output}"
            assert self.port, f"the server ended:\n{self.output}"
            if self.wait_ready:
                self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def line(self, text: str) -> str:
        """The newest line of the output that holds `text`; waits for it to be read."""
        with self._more:
            found = self._more.wait_for(lambda: [line for line in self.lines if text in line], 30)
            assert found, f"{text!r} is not in the output:\n{self.output}"
            return found[-1]

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
            match = re.search(r"http://[^ ]*:(\d+) +start page", line)
            if match:
                self.port = int(match.group(1))
                self._listening.set()
        self._listening.set()

    def wait_until_ready(self) -> None:
        """Until /health/ready says so; readiness is asked for, not slept for."""
        end = time.monotonic() + START_LIMIT_S
        while (reply := self.get("/health/ready")).status != 200:
            assert time.monotonic() < end, f"not ready: {reply.body!r}\n{self.output}"
            assert self.process.poll() is None, f"the server ended:\n{self.output}"
            time.sleep(0.01)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(5)
            if self.process.stdout is not None:
                self.process.stdout.close()

    def connect(self, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return self.call("GET", path, None, headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """`body` as it is if it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", path, raw, {"content-type": "application/json", **(headers or {})})
