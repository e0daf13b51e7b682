"""Imports only go down: one table of floors, checked over every import of every file."""

from __future__ import annotations

import ast

import pytest

from tests.inference.house.source import (
    DOORS,
    FLOOR_OF,
    FLOORS,
    ORDERED_FLOOR,
    SIDEWAYS_FLOORS,
    Module,
    module_names,
    modules,
)


def may_import(importer: str, imported: str) -> bool:
    """Whether a module of one room may import one of another."""
    if importer == imported:
        return True
    here, there = FLOOR_OF[importer], FLOOR_OF[imported]
    if here != there:
        return there < here
    if here == ORDERED_FLOOR:
        return FLOORS[here].index(imported) < FLOORS[here].index(importer)
    return here in SIDEWAYS_FLOORS


def test_every_file_stands_on_a_floor() -> None:
    homeless = sorted({module.name for module in modules() if module.room and module.room not in FLOOR_OF})
    assert homeless == [], "put the room into the table in tests/inference/house/source.py"


def test_imports_go_down_or_stay_in_their_room() -> None:
    wrong = []
    for module in modules():
        if not module.room:
            continue
        for name, line in module.own_imports.items():
            room = [*name.split("."), ""][1]
            if not room:
                wrong.append(f"{module.name}:{line} imports from inference itself: name the module")
            elif not may_import(module.room, room):
                wrong.append(f"{module.name}:{line} (floor {module.floor}) imports {name} (floor {FLOOR_OF[room]})")
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("engine", "decisions", True),
        ("decisions", "engine", False),
        ("decisions", "protocols", False),
        ("tensor", "errors", True),
        ("runtime", "model_repository", True),
        ("model_repository", "runtime", False),
        ("servers", "streaming_predictor", False),
    ],
)
def test_the_table_says_what_the_house_means(importer: str, imported: str, *, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle of the graph, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_no_import_cycle() -> None:
    graph = {module.name: set(module.own_imports) & module_names() for module in modules()}
    assert cycle(graph) == []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def importers(module_name: str) -> set[str]:
    """Modules that import `module_name` or something inside it."""
    found = set()
    for module in modules():
        names = {*module.foreign_imports, *module.own_imports}
        if any(name == module_name or name.startswith(f"{module_name}.") for name in names):
            found.add(module.name)
    return found


def test_only_the_session_imports_onnxruntime() -> None:
    assert importers("onnxruntime") <= {"inference.runtime.session"}


def test_only_doors_read_settings() -> None:
    readers = {name.split(".")[1] for name in importers("inference.settings_source")}
    assert readers <= {*DOORS, "settings_source"}


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("structlog", {"inference.monitoring.logs"}),
        ("starlette", {"inference.servers"}),
        ("uvicorn", {"inference.servers", "inference.streaming_predictor"}),
        ("websockets", {"inference.servers.stream_socket"}),
        ("typer", {"inference.cli"}),
        ("rich", {"inference.cli"}),
        ("prometheus_client", {"inference.monitoring"}),
        ("PIL", {"inference.pipeline"}),
        ("pyarrow", {"inference.pipeline", "inference.connectors", "inference.job_runner"}),
        ("obstore", {"inference.connectors"}),
        ("httpx2", {"inference.connectors"}),
        ("sqlalchemy", {"inference.database", "inference.ledger"}),
        ("alembic", {"inference.database"}),
        ("croniter", {"inference.ledger"}),
        ("ray", {"inference.job_runner"}),
    ],
)
def test_each_library_has_one_room(library: str, rooms: set[str]) -> None:
    strangers = {name for name in importers(library) if not any(name == r or name.startswith(f"{r}.") for r in rooms)}
    assert strangers == set()


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    (session,) = [module for module in modules() if module.name == "inference.runtime.session"]
    lines = session.text.splitlines()
    switched_off = next(n for n, line in enumerate(lines, 1) if 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in line)
    assert switched_off < min(executed_imports(session, "onnxruntime"))


def executed_imports(module: Module, library: str) -> list[int]:
    """Lines that import `library` when they run; those under TYPE_CHECKING never do."""
    never = {
        line
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return [item.line for item in module.imports if item.module == library and item.line not in never]
