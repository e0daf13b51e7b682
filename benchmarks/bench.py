"""Where the benchmark keeps its things, and which machine it runs on."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / ".bench"  # ignored by git
BUNDLED = ROOT / "models"
PROFILES = BENCH / "profiles"  # batch sizes that the servers under test have measured
SERVER_CORE, LOAD_CORE = 0, 1
VERSIONS = ("glassai-inference", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "msgspec", "starlette")


class Machine(msgspec.Struct, frozen=True):
    """What the figures were measured on."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    versions: tuple[tuple[str, str], ...]
    wrk: str


def this_machine() -> Machine:
    """The machine that runs this, with the versions of what serves."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=names[0] if names else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory_bytes / 2**30, 1),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        versions=tuple((name, version(name)) for name in VERSIONS),
        wrk=wrk_version(),
    )


def wrk_version() -> str:
    """First line of `wrk -v`, whose exit status is 1; empty where wrk is not installed."""
    try:
        said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (said.stdout + said.stderr).splitlines()[0].split(" Copyright")[0]


@contextmanager
def alone() -> Generator[None]:
    """Hold the lock that keeps two benchmarks of this checkout from running at once."""
    BENCH.mkdir(exist_ok=True)
    with (BENCH / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pinned(core: int) -> list[str]:
    """Command prefix that keeps a process on one core; nothing where there is no such core (see `need_cores`)."""
    return ["taskset", "-c", str(core)] if core in os.sched_getaffinity(0) else []


def need_cores() -> None:
    """Raise if server and load cannot have a core each: no figure would mean anything."""
    missing = {SERVER_CORE, LOAD_CORE} - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"server and load need cores {SERVER_CORE} and {LOAD_CORE}; not allowed here: {missing}")


def one_thread() -> dict[str, str]:
    """Environment in which numeric libraries start no threads of their own, and nothing reports home."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "1"), "ORT_DISABLE_TELEMETRY": "1"}
