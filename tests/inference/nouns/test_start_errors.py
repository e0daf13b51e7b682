"""Errors that keep a command from going on."""

from __future__ import annotations

import inspect
import re

import pytest

from inference import start_errors
from inference.errors import CallerError
from inference.start_errors import ModelPackageInvalid, SettingsInvalid, StartError


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", start_errors.__doc__ or ""))
    classes = {name for name, c in inspect.getmembers(start_errors, inspect.isclass) if issubclass(c, StartError)}
    assert classes <= drawn
    assert not issubclass(StartError, CallerError)


@pytest.mark.parametrize(("problems", "said"), [(["a"], "1 problem"), (["a", "b"], "2 problems")])
def test_settings_problems_are_listed_together(problems: list[str], said: str) -> None:
    error = SettingsInvalid(problems)
    assert said in str(error)
    assert error.problems == tuple(problems)
    assert all(f"\n  - {problem}" in str(error) for problem in problems)


def test_a_package_error_remembers_the_model() -> None:
    error = ModelPackageInvalid("m/1", ["model.onnx is missing"])
    assert error.model == "m/1"
    assert "model.onnx is missing" in str(error)
