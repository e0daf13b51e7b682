"""A closed loop on a server: wrk with one thread on its own core; a caller asks again once it has its answer."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec

from benchmarks.bench import BENCH, LOAD_CORE, pinned

SCRIPTS = Path(__file__).parent / "wrk"
JSON_TYPE: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Target:
    """What is loaded: a URL and the body that is posted to it."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_TYPE)

    def arguments(self) -> list[str]:
        """As wrk takes them."""
        path = BENCH / f"body-{sha256(self.body).hexdigest()[:12]}"
        path.write_bytes(self.body)
        headers = [part for name, value in self.headers.items() for part in ("-H", f"{name}: {value}")]
        return [*headers, "-s", str(SCRIPTS / "post.lua"), self.url, "--", str(path)]


class WrkReport(msgspec.Struct, frozen=True):
    """What the scripts print."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    refused: int  # answers that were not 2xx
    broken: int  # requests without an answer
    next: int = 0


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    requests_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def need_wrk() -> None:
    """Raise if wrk is missing."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk was not found: install it from the distribution (Debian: apt install wrk)")


def wrk(arguments: list[str], connections: int, seconds: int, core: int | None = LOAD_CORE) -> WrkReport:
    """Run wrk for whole seconds; unpinned if `core` is None."""
    need_wrk()
    prefix = pinned(core) if core is not None else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    done = subprocess.run([*prefix, *command, *arguments], capture_output=True, text=True, check=False)
    report = next((line[7:] for line in done.stdout.splitlines() if line.startswith("REPORT ")), None)
    if report is None:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    return msgspec.json.decode(report, type=WrkReport)


def seen(report: WrkReport, what: str, *, all_good: bool = True) -> Load:
    """The run in figures. Raises if a request was refused or lost while all had to be good: it measures nothing."""
    if all_good and (report.refused or report.broken):
        raise RuntimeError(f"{what}: {report.refused} answers were not 2xx, {report.broken} got none")
    rate = (report.requests - report.refused) / (report.duration_us / 1e6)
    return Load(
        report.requests, rate, report.p50_us / 1000, report.p99_us / 1000, failed=report.refused + report.broken
    )


def load(
    target: Target, connections: int, seconds: int, core: int | None = LOAD_CORE, *, all_good: bool = True
) -> Load:
    """Load `target` with the same request over and over."""
    return seen(wrk(target.arguments(), connections, seconds, core), target.url, all_good=all_good)


class Lines:
    """The source document's own request: rows of many lines, whose timestamps go on from one run to the next."""

    LINES = 64

    def __init__(self, url: str) -> None:
        self._url = url
        self._second = 0

    def load(self, connections: int, seconds: int, core: int | None = LOAD_CORE) -> Load:
        """One run."""
        arguments = ["-s", str(SCRIPTS / "lines.lua"), self._url, "--", str(self.LINES), str(self._second)]
        report = wrk(arguments, connections, seconds, core)
        self._second = report.next
        return seen(report, self._url)
