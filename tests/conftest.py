"""What holds for every test: it closes what it opens."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before() -> None:
    """Keeps the collector's look after each test short: what lives by now is not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_open(_what_was_there_before: None) -> Iterator[None]:
    """Who leaves a socket or a task in a cycle fails itself, and not the test in which the collector happens to run."""
    yield
    gc.collect()
