"""Load on a server: wrk with one thread on its own core, a closed loop of `connections` callers."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import BENCH, LOAD_CORE, pinned

SCRIPT = Path(__file__).parent / "wrk" / "post.lua"


@dataclass(frozen=True)
class Target:
    """What is loaded: a URL and the body that is posted to it; GET without one."""

    url: str
    body: bytes = b""

    def body_file(self) -> list[str]:
        """The body as wrk takes it."""
        if not self.body:
            return []
        path = BENCH / f"body-{hash(self.body) & 0xFFFFFFFF:08x}"
        path.write_bytes(self.body)
        return ["--", str(path)]


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    requests_s: float
    p50_ms: float
    p99_ms: float


def need_wrk() -> None:
    """Raise if wrk is missing."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk was not found: install it from the distribution (Debian: apt install wrk)")


def load(target: Target, connections: int, seconds: int) -> Load:
    """Load `target` for whole seconds. Raises if any request was refused or lost: such a run measures nothing."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), target.url]
    done = subprocess.run(
        [*pinned(LOAD_CORE), *command, *target.body_file()], capture_output=True, text=True, check=False
    )
    report = next((line[7:] for line in done.stdout.splitlines() if line.startswith("REPORT ")), None)
    if report is None:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    seen = json.loads(report)
    if seen["refused"] or seen["broken"]:
        raise RuntimeError(f"{target.url}: {seen['refused']} answers were not 2xx, {seen['broken']} got none")
    return Load(seen["requests"] / (seen["duration_us"] / 1e6), seen["p50_us"] / 1000, seen["p99_us"] / 1000)
