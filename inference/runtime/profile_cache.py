"""Measured knees kept between starts: one small file for each model, device and machine.

The cache saves a measurement and is never needed: what cannot be read or written is told once and done without.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Literal

import msgspec

from inference.device import Device

log = logging.getLogger(__name__)

KNEE_MAX = 65_536  # a larger one in a file is damage
ENTRY_BYTES_MAX = 4096


class _Entry(msgspec.Struct, frozen=True):
    """What a knee was measured on, and the knee."""

    model_sha256: str
    provider: str
    runtime: str
    threads: int
    processor: str
    cores: int
    knee: int


class ProfileCache:
    """Knees in `folder` ("~" is the home folder; "" keeps nothing).

    `of`: what they are the knees of; the batches of jobs have others than those of callers.
    """

    def __init__(self, folder: str, of: Literal["knee", "batch"] = "knee") -> None:
        self._of = of
        self._folder: Path | None = None
        self._told = False
        try:
            self._folder = Path(folder).expanduser() if folder else None
        except RuntimeError as error:  # a user without a home folder
            log.warning("measured batch sizes are not kept in %s: %s", folder, error)

    def read(self, model_sha256: str, device: Device) -> int | None:
        """The knee that was measured for this model on this device and machine, or None."""
        if self._folder is None:
            return None
        wanted = _entry(model_sha256, device, 0)
        file = self._folder / _file_name(self._of, wanted)
        try:
            with file.open("rb") as stream:
                content = stream.read(ENTRY_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(error)
            return None
        try:
            entry = msgspec.json.decode(content, type=_Entry)
        except msgspec.MsgspecError:
            log.info("%s is damaged and ignored; it is written again after the next measurement", file)
            return None
        if not 1 <= entry.knee <= KNEE_MAX or msgspec.structs.replace(entry, knee=0) != wanted:
            return None
        return entry.knee

    def write(self, model_sha256: str, device: Device, knee: int) -> None:
        """Keep a knee; a reader sees the old file or the new one, never a part of it."""
        if self._folder is None:
            return
        entry = _entry(model_sha256, device, knee)
        file = self._folder / _file_name(self._of, entry)
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.encode(entry))
            part.replace(file)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            log.warning("measured batch sizes are not kept in %s: %s", self._folder, error.strerror or error)


def _entry(model_sha256: str, device: Device, knee: int) -> _Entry:
    processor = _processor() if device.provider == "cpu" else f"{_processor()} {_accelerator()}"
    return _Entry(model_sha256, device.provider, device.runtime, device.threads, processor, _cores(), knee)


def _file_name(of: str, entry: _Entry) -> str:
    key = msgspec.json.encode(msgspec.structs.replace(entry, knee=0))
    return f"{of}-{hashlib.sha256(key).hexdigest()[:32]}.json"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor as Linux names it: "model name" on x86, implementer and part on ARM; elsewhere its architecture."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            first = [line.strip() for _, line in zip(range(64), lines, strict=False)]
    except OSError:
        return os.uname().machine
    named = [line for line in first if line.startswith(("model name", "CPU implementer", "CPU part"))]
    words = [line.partition(":")[2].strip() for line in named]
    return " ".join(dict.fromkeys(words)) or os.uname().machine


def _accelerator() -> str:
    """Graphics cards as NVIDIA's driver lists them, or nothing."""
    names: list[str] = []
    for listing in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        text = listing.read_text(encoding="utf-8", errors="replace")
        names += [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model")]
    return ", ".join(names)
