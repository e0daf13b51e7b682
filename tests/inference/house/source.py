"""The package read as text: its modules, what each imports, and the floor each stands on. Imports none of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "inference"

# The one table of floors. A room is a file or a folder directly under inference/. An import goes to a lower floor, or
# stays inside its room; rooms that are single files of floor 0, 3 or 5 share the folder inference/ and may go sideways.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        *("version", "fault", "errors", "start_errors", "job_errors", "tensor", "model", "request", "job", "shard"),
        *("settings", "device"),
    ),
    ("decisions", "protocols"),
    # Floor 2 has an inner order: an import goes left.
    (
        "monitoring",
        "database",
        "security",
        "artifact_signing",
        "model_repository",
        "runtime",
        "pipeline",
        "connectors",
        "ledger",
        "settings_source",
    ),
    (
        "loop_calls",
        "lane",
        "after_reading",
        "quiet_calls",
        "background_calls",
        "engine",
        "served_model",
        "model_manager",
        "predictor",
        "job_runner",
    ),
    ("servers",),
    ("streaming_predictor", "batch_predictor", "edge_inference", "cli"),
)
SIDEWAYS_FLOORS = frozenset({0, 3, 5})
ORDERED_FLOOR = 2
DOORS = FLOORS[5]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One imported module, and the names taken from it (empty for `import x`)."""

    module: str
    names: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """Dotted name, such as inference.runtime.session; a package's __init__ has the package's name."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """The file or folder directly under inference/ that the module belongs to; "" is inference/__init__.py."""
        return [*self.name.split("."), ""][1]

    @property
    def floor(self) -> int:
        """The floor of its room."""
        return FLOOR_OF[self.room]

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, those inside functions and under TYPE_CHECKING too."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(alias.name, (), node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}:{node.lineno}: imports are absolute"
                found.append(Import(node.module or "", tuple(alias.name for alias in node.names), node.lineno))
        return tuple(found)

    @cached_property
    def own_imports(self) -> dict[str, int]:
        """Own modules that it imports, with the line; `from inference.runtime import session` names session."""
        found: dict[str, int] = {}
        for item in self.imports:
            for name in item.names or ("",):
                longer = f"{item.module}.{name}"
                target = longer if longer in module_names() else item.module
                if target.split(".")[0] == "inference":
                    found.setdefault(target, item.line)
        return found

    @cached_property
    def foreign_imports(self) -> dict[str, int]:
        """Modules of others that it imports, with the line."""
        return {item.module: item.line for item in self.imports if item.module.split(".")[0] != "inference"}


_FOUND: dict[str, Module] = {}


def modules() -> list[Module]:
    """All modules of the package, by name."""
    if not _FOUND:
        for path in sorted(PACKAGE.rglob("*.py")):
            _FOUND[Module(path).name] = Module(path)
    return list(_FOUND.values())


def module_names() -> set[str]:
    """Their dotted names."""
    modules()
    return set(_FOUND)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def python_files(*folders: str) -> list[Path]:
    """All Python files under these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
