"""Public names are listed: adding, renaming or removing one is a change that a reviewer sees."""

from __future__ import annotations

import importlib

import pytest

from tests.inference.house.public_names import LISTED, listing


def test_public_names_are_those_listed() -> None:
    now, listed = set(listing().splitlines()), set(LISTED.read_text(encoding="utf-8").splitlines())
    refresh = "python -m tests.inference.house.public_names"
    assert now == listed, f"if the change is meant: {refresh}"


def test_the_package_gives_its_in_process_door() -> None:
    inference = importlib.import_module("inference")
    assert inference.Predictor.__module__ == "inference.predictor"
    assert "Predictor" in dir(inference)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    inference = importlib.import_module("inference")
    with pytest.raises(AttributeError, match="Predictr"):
        inference.Predictr  # noqa: B018 - the access is what is tested
