"""Floors 0 and 1 decide: no clock, no I/O, no loop, no threads, no logging, no randomness of their own."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.inference.house.source import Module, modules

IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "fcntl",
        "glob",
        "http",
        "importlib",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
    }
    | {"pathlib", "queue", "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl"}
    | {"structlog", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"}
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})
IMPURE_ATTRIBUTES = frozenset({"now", "utcnow", "today"})  # of datetime and date
NUMPY_IMPURE = frozenset({"random", "load", "save", "savez", "fromfile", "memmap", "loadtxt", "savetxt"})
THIRD_PARTY = frozenset({"numpy", "msgspec", "tomli"})  # tomli stands in for tomllib on Python 3.10

PURE = [module for module in modules() if module.room and module.floor <= 1]


def impurities(module: Module) -> list[str]:
    """What in this module reads or changes the world, with its line."""
    found = []
    for item in module.imports:
        top = item.module.split(".")[0]
        if top in IMPURE_MODULES:
            found.append(f"{item.line}: import of {item.module}")
        if top == "random" and item.names != ("Random",):
            found.append(f"{item.line}: random may only give the type Random")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"{node.lineno}: call of {node.func.id}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            name = node.attr
            if (owner in {"datetime", "date"} and name in IMPURE_ATTRIBUTES) or (
                owner == "np" and name in NUMPY_IMPURE
            ):
                found.append(f"{node.lineno}: {owner}.{name}")
    return found


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_pure(module: Module) -> None:
    assert impurities(module) == []


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_only_the_standard_library_numpy_and_msgspec(module: Module) -> None:
    tops = {name.split(".")[0] for name in module.foreign_imports}
    assert tops - THIRD_PARTY - sys.stdlib_module_names == set()


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from os import path",
        "import random",
        "open('x')",
        "import datetime\ndatetime.datetime.now",
        "from datetime import datetime\ndatetime.now()",
        "import numpy as np\nnp.random.rand()",
        "def f():\n    import socket",
    ],
)
def test_an_impurity_would_be_found(source: str, tmp_path) -> None:
    module = Module(tmp_path / "x.py")
    (tmp_path / "x.py").write_text(source)
    assert impurities(module)
