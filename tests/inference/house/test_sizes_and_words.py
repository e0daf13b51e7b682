"""The tail is gated: long functions and files, missing docstrings, ignores without a reason, unfinished work."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.inference.house.source import ROOT, Module, functions, modules, python_files

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
CODE = python_files("inference", "benchmarks", "examples", "tests")
PRODUCT = modules()

# The reason of an ignore stands after its code and a dash.
IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pyrefly:\s*ignore|pragma)")
IGNORE_WITH_REASON = re.compile(
    r"#\s*(noqa:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*|pyrefly:\s*ignore\[[\w, -]+\]|type:\s*ignore\[[\w, -]+\])\s*-+\s*\w+"
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def name_of(path: Path) -> str:
    """Path inside the repository, for messages."""
    return str(path.relative_to(ROOT))


def test_functions_are_short() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name}: {lines} lines"
        for path in CODE
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if (lines := (function.end_lineno or function.lineno) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_files_are_short() -> None:
    counts = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in CODE}
    assert {name: lines for name, lines in counts.items() if lines > FILE_LINES_MAX} == {}


def undocumented(module: Module) -> list[str]:
    """Public module, classes, functions and methods without a docstring."""
    found = [] if ast.get_docstring(module.tree) else [module.name]

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            overload = any(getattr(mark, "id", getattr(mark, "attr", "")) == "overload" for mark in node.decorator_list)
            if not ast.get_docstring(node) and not overload:
                found.append(f"{prefix}.{node.name}")
            if isinstance(node, ast.ClassDef):
                walk(node.body, f"{prefix}.{node.name}")

    walk(module.tree.body, module.name)
    return found


def test_everything_public_says_what_it_gives() -> None:
    assert [name for module in PRODUCT for name in undocumented(module)] == []


def comments(path: Path) -> list[tuple[int, str]]:
    """Line and text of each comment."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def test_every_ignore_has_a_reason() -> None:
    bare = [
        f"{name_of(path)}:{line} {text}"
        for path in CODE
        for line, text in comments(path)
        if IGNORE.search(text) and not IGNORE_WITH_REASON.search(text)
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("comment", "reasoned"),
    [
        ("# noqa: BLE001 - a runner thread must outlive its batch", True),
        ("# noqa: BLE001", False),
        ("# noqa", False),
        ("# pyrefly: ignore[bad-return] - the stub lacks it", True),
        ("# pyrefly: ignore", False),
    ],
)
def test_a_reason_is_told_from_none(comment: str, *, reasoned: bool) -> None:
    assert bool(IGNORE_WITH_REASON.search(comment)) is reasoned


def test_nothing_is_left_unfinished() -> None:
    marks = [
        f"{name_of(path)}:{number}"
        for path in python_files("inference", "benchmarks", "examples")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marks == []


def test_no_exception_is_swallowed_unseen() -> None:
    silent = [
        f"{module.name}:{node.lineno}"
        for module in PRODUCT
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"})
        and all(isinstance(line, ast.Pass) for line in node.body)
    ]
    assert silent == []


def test_every_file_reads_annotations_late() -> None:
    """Newer annotation syntax then runs on 3.10; a file of constants has none."""
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign)
    with_code = [module for module in PRODUCT if any(isinstance(node, code) for node in module.tree.body)]
    assert [m.name for m in with_code if "from __future__ import annotations" not in m.text] == []


def test_each_module_has_its_own_tests() -> None:
    """A test file named after the module, in any room of the tests; `__init__` files hold no code to test."""
    present = {path.stem for path in (ROOT / "tests" / "inference").rglob("test_*.py")}
    missing = [
        module.name
        for module in PRODUCT
        if module.path.stem != "__init__"
        and not any(f"{stem}_".startswith(f"test_{module.path.stem}_") for stem in present)
    ]
    assert missing == []
