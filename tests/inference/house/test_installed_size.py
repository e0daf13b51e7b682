"""The core, installed without extras and without pip, stays within 250 MB."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.inference.house.source import ROOT

CORE_MB_MAX = 250
LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ]+)( ; (.+?))? \\$", re.MULTILINE)


def installed(name: str) -> Distribution | None:
    """The distribution, or None where a marker of the lock file keeps it from this machine."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def installed_bytes(found: Distribution) -> int:
    """Bytes of the files that the distribution owns, byte code included."""
    paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def locked_core() -> set[str]:
    """Names in requirements.txt, which holds the core and nothing else."""
    return {match[1] for match in LOCKED.finditer((ROOT / "requirements.txt").read_text(encoding="utf-8"))}


def test_the_core_is_small() -> None:
    sizes = {name: installed_bytes(found) for name in locked_core() if (found := installed(name))}
    package = sum(path.stat().st_size for path in (ROOT / "inference").rglob("*") if path.is_file())
    assert {"numpy", "onnxruntime", "starlette", "uvicorn"} <= sizes.keys()
    assert (sum(sizes.values()) + package) / 1e6 <= CORE_MB_MAX


def test_the_core_holds_no_extra() -> None:
    extras = {"pyarrow", "sqlalchemy", "alembic", "torch", "onnx", "pytest", "matplotlib", "ray", "plotly"}
    assert locked_core() & extras == set()
