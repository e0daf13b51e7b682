"""The public names of the package, and the file that lists them.

A changed name shows in review, since public_names.txt changes with it. To refresh it:
python -m tests.inference.house.public_names
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.inference.house.source import Module, modules

LISTED = Path(__file__).with_name("public_names.txt")


def public_names(module: Module) -> list[str]:
    """Classes, functions and constants that a module defines for others, sorted."""
    names = set()
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return sorted(name for name in names if not name.startswith("_") and name != "logger")


def listing() -> str:
    """One line a module: its dotted name and its public names."""
    lines = [f"{module.name}: {' '.join(public_names(module))}".rstrip() for module in modules()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LISTED.write_text(listing(), encoding="utf-8")
