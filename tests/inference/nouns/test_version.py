"""The version in the code is the version of the distribution."""

from __future__ import annotations

import re
from importlib.metadata import version

from inference.version import VERSION


def test_the_code_and_the_distribution_agree() -> None:
    assert version("glassai-inference") == VERSION


def test_it_is_a_semantic_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.-].+)?", VERSION)
