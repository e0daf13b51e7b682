"""The contract of the bulk pipeline is small, and loads no library of columns."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

from inference.pipeline import bulk


def test_each_contract_is_read_at_a_glance() -> None:
    classes = [node for node in ast.parse(inspect.getsource(bulk)).body if isinstance(node, ast.ClassDef)]
    assert {node.name for node in classes} == {"RowsDiffer", "PreparedRows", "BulkInput", "BulkOutput"}
    assert all((node.end_lineno or 0) - node.lineno < 90 for node in classes)


def test_naming_the_contract_loads_no_pyarrow() -> None:
    code = "import sys, inference.pipeline.bulk; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
