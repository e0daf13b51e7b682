"""The open-loop generator of `glassai bench`, run alone on the load core: `python -m benchmarks.open_loop JOB_FILE`.

The requests, their times and which request goes out when are all made before the first one is sent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import BENCH, LOAD_CORE, ROOT, one_thread, pinned
from benchmarks.load import Target
from inference.cli.bench_request import BenchRequest
from inference.cli.load_figures import crowded, lag, percentile
from inference.cli.load_generator import run_load
from inference.cli.load_schedule import arrivals

CONNECTIONS = 1024  # 20,000 requests/s that take 50 ms each; more in flight voids the run
LIMIT_S = 120.0  # over the length of a run

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Job(msgspec.Struct, frozen=True):
    """What the child does."""

    host: str
    port: int
    requests: list[bytes]
    shares: list[float]
    rate_s: float
    seconds: float
    pattern: str
    seed: int
    connections: int
    out: str


@dataclass(frozen=True)
class OpenRun:
    """Request by request: times in s from the start, status (0: no answer), which of the requests it was.

    `lag` says why the run is void, or is empty.
    """

    due_s: Floats
    sent_s: Floats
    done_s: Floats
    status: NDArray[np.int16]
    choice: NDArray[np.uint16]
    seconds: float
    lag: str

    @property
    def latency_s(self) -> Floats:
        """From the intended send time to the answer."""
        return self.done_s - self.due_s

    @property
    def good(self) -> Mask:
        """Answered with a prediction."""
        return self.status == 200

    def quantile_ms(self, share: float, among: Mask | None = None) -> float:
        """Latency that `share` of the requests do not exceed (nearest rank); one without a prediction never came."""
        latency_s = np.where(self.good, self.latency_s, np.inf)
        return percentile(sorted(((latency_s if among is None else latency_s[among]) * 1000).tolist()), share)


def raw_request(target: Target, **headers: str) -> bytes:
    """A whole HTTP request for the target."""
    parts = urlsplit(target.url)
    given = (*target.headers.items(), *((name.replace("_", "-"), value) for name, value in headers.items()))
    return BenchRequest(parts.path, given, target.body, "").raw(str(parts.hostname), parts.port or 80)


def open_loop(
    target: Target,
    rate_s: float,
    seconds: float,
    seed: int,
    variants: Sequence[tuple[bytes, float]] = (),
    connections: int = CONNECTIONS,
) -> OpenRun:
    """Load the target at a Poisson rate; `variants` are requests with their shares, in place of the target's own."""
    parts = urlsplit(target.url)
    chosen = list(variants) or [(raw_request(target), 1.0)]
    BENCH.mkdir(exist_ok=True)
    out, job_file = BENCH / f"open-loop-{os.getpid()}.npz", BENCH / f"open-loop-{os.getpid()}.job"
    job = Job(
        str(parts.hostname),
        parts.port or 80,
        [request for request, _ in chosen],
        [share for _, share in chosen],
        rate_s,
        seconds,
        "poisson",
        seed,
        connections,
        str(out),
    )
    job_file.write_bytes(msgspec.msgpack.encode(job))
    command = [*pinned(LOAD_CORE), sys.executable, "-m", "benchmarks.open_loop", str(job_file)]
    done = subprocess.run(
        command, cwd=ROOT, env=one_thread(), capture_output=True, text=True, check=False, timeout=seconds + LIMIT_S
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-1500:]}")
    with np.load(out) as kept:
        arrays: dict[str, Any] = {name: kept[name] for name in ("due_s", "sent_s", "done_s", "status", "choice")}
    out.unlink()
    job_file.unlink()
    return OpenRun(**arrays, seconds=seconds, lag=done.stdout.strip())


def main(job_file: str) -> None:
    """Do the job; prints why the run is void, if it is."""
    job = msgspec.msgpack.decode(Path(job_file).read_bytes(), type=Job)
    due_s = arrivals(job.pattern, job.rate_s, job.seconds, Random(job.seed))
    shares = np.array(job.shares) / sum(job.shares)
    choice = np.random.default_rng(job.seed).choice(len(shares), len(due_s), p=shares).astype(np.uint16)
    run = run_load(job.host, job.port, job.requests, due_s, job.connections, array("H", choice.tobytes()))
    due, sent, done = (np.array(times) for times in (run.due_s, run.sent_s, run.done_s))
    np.savez(job.out, due_s=due, sent_s=sent, done_s=done, status=np.array(run.status), choice=choice)
    print(lag(run) or crowded(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
