"""Servers shared by the tests of one worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.live_server import ROOT, LiveServer
from tests.inference.postgres_server import PostgresServer, server_programs


@pytest.fixture(scope="session")
def bundled_server() -> Iterator[LiveServer]:
    """The server with both bundled models, as `make run` starts it."""
    required = ["--required", "lstm_defect_predictor", "--required", "vit_defect_detector"]
    with LiveServer(ROOT / "models", required) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, where one is installed."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger may lie, once for each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()
