"""Servers shared by the tests of one worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.inference.live_server import ROOT, LiveServer


@pytest.fixture(scope="session")
def bundled_server() -> Iterator[LiveServer]:
    """The server with both bundled models, as `make run` starts it."""
    required = ["--required", "lstm_defect_predictor", "--required", "vit_defect_detector"]
    with LiveServer(ROOT / "models", required) as server:
        yield server
