"""What the edge door loads must run on Python 3.10, which Jetson boards have."""

from __future__ import annotations

import ast

import pytest

from tests.inference.house.source import Module, modules

EDGE_ROOMS = frozenset({"", "version", "runtime", "pipeline", "model_repository", "predictor"})
EDGE_MODULES = frozenset({"inference.monitoring", "inference.monitoring.metrics"})
# Names that came after 3.10, by the module that has them.
LATER: dict[str, frozenset[str]] = {
    "typing": frozenset(
        {"Self", "Never", "LiteralString", "assert_never", "assert_type", "reveal_type", "override", "Unpack"}
        | {"Required", "NotRequired", "TypeVarTuple", "dataclass_transform", "TypeAliasType", "ReadOnly"}
    ),
    "enum": frozenset({"StrEnum", "verify", "member", "nonmember", "ReprEnum"}),
    "datetime": frozenset({"UTC"}),
    "asyncio": frozenset({"TaskGroup", "timeout", "timeout_at", "Runner", "Barrier"}),
    "contextlib": frozenset({"chdir"}),
    "hashlib": frozenset({"file_digest"}),
    "itertools": frozenset({"batched"}),
    "math": frozenset({"cbrt", "exp2", "sumprod", "fma"}),
    "operator": frozenset({"call"}),
    "logging": frozenset({"getLevelNamesMapping", "getHandlerNames"}),
    "re": frozenset({"NOFLAG"}),
}
BUILTINS_LATER = frozenset({"ExceptionGroup", "BaseExceptionGroup"})
METHODS_LATER = frozenset({"add_note", "walk_up"})
EDGE = [m for m in modules() if m.room in EDGE_ROOMS or (m.room and m.floor <= 1) or m.name in EDGE_MODULES]


def later_names(tree: ast.Module) -> list[str]:
    """Uses of names that Python 3.10 does not have."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} & LATER.get(node.module or "", frozenset())
            found += [f"{node.lineno}: {node.module}.{name}" for name in sorted(names)]
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in LATER.get(owner, frozenset()) or node.attr in METHODS_LATER:
                found.append(f"{node.lineno}: {owner}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in BUILTINS_LATER:
            found.append(f"{node.lineno}: {node.id}")
    return found


def tomllib_without_fallback(tree: ast.Module) -> bool:
    """Whether tomllib is imported outside a `try` that falls back to tomli."""
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and node.handlers
        for statement in node.body
        for inner in ast.walk(statement)
    }
    return any(
        isinstance(node, ast.Import) and node.names[0].name == "tomllib" and id(node) not in guarded
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("module", EDGE, ids=lambda module: module.name)
def test_syntax_and_names_of_3_10(module: Module) -> None:
    tree = ast.parse(module.text, feature_version=(3, 10))
    assert later_names(tree) == []
    assert not tomllib_without_fallback(tree)


@pytest.mark.parametrize(
    "source",
    ["from typing import Self", "import datetime\ndatetime.UTC", "raise ExceptionGroup('x', [])", "e.add_note('x')"],
)
def test_a_later_name_would_be_found(source: str) -> None:
    assert later_names(ast.parse(source))


def test_a_bare_tomllib_would_be_found() -> None:
    fallback = "try:\n    import tomllib\nexcept ModuleNotFoundError:\n    import tomli as tomllib"
    assert tomllib_without_fallback(ast.parse("import tomllib"))
    assert not tomllib_without_fallback(ast.parse(fallback))
