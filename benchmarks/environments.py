"""Environments that the benchmark installs: one per peer, and the product's core alone to weigh it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.bench import BENCH, ROOT

INSTALLERS = ("pip", "setuptools", "wheel")


def peer_python(name: str) -> Path:
    """Python of the peer's environment, installed from benchmarks/peers/NAME.txt if it is not there yet."""
    wanted = ROOT / "benchmarks" / "peers" / f"{name}.txt"
    folder = BENCH / "peers" / name
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        print(f"Installing the peer {name} ...", flush=True)
        make_environment(folder)
        pip(folder, "install", "-r", str(wanted))
        stamp.write_text(wanted.read_text())
    return folder / "bin" / "python"


def core_megabytes() -> float:
    """Size of the product's core in a fresh environment, as `pip install` leaves it, without pip; MB of 10^6 bytes."""
    folder = BENCH / "core"
    make_environment(folder)
    empty = occupied_bytes(folder)
    pip(folder, "install", "--require-hashes", "-r", str(ROOT / "requirements.txt"))
    pip(folder, "install", "--no-deps", str(ROOT))
    megabytes = (occupied_bytes(folder) - empty) / 1e6
    shutil.rmtree(folder)
    return megabytes


def make_environment(folder: Path) -> None:
    """A fresh virtual environment."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)


def pip(folder: Path, *arguments: str) -> None:
    """Run the environment's pip."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", *arguments, *quiet], check=True)


def occupied_bytes(folder: Path) -> int:
    """Bytes of all files of an environment, those of pip and its kind left out."""
    total = 0
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        installer = any(part.split("-")[0] in INSTALLERS for part in inside[3:5])
        if path.is_file() and not path.is_symlink() and not installer:
            total += path.stat().st_size
    return total
