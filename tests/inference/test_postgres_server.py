"""The tests' database server ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.inference.live_server import ROOT
from tests.inference.postgres_server import PostgresServer, server_programs
from tests.inference.process_group import until

STARTER = """
import sys
from tests.inference.postgres_server import PostgresServer, server_programs
with PostgresServer(server_programs()) as server:
    print(server.process.pid, server.folder, flush=True)
    sys.stdin.readline()
"""


def test_it_never_runs_as_root_and_answers(postgres_server: PostgresServer) -> None:
    assert postgres_server.process is not None
    assert psutil.Process(postgres_server.process.pid).uids().real != 0
    assert postgres_server.new_database() != postgres_server.new_database()


@pytest.mark.skipif(server_programs() is None, reason="PostgreSQL is not installed (Debian: apt install postgresql)")
@pytest.mark.parametrize("how", ["left", "killed"])
def test_it_ends_with_its_starter(how: str) -> None:
    command = [sys.executable, "-c", STARTER]
    starter = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid, folder = starter.stdout.readline().split()
    server = psutil.Process(int(pid))
    if how == "killed":
        os.kill(starter.pid, signal.SIGKILL)
    starter.communicate("\n", timeout=60)
    until("the server still runs", lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    if how == "left":
        assert not Path(folder).exists()
    subprocess.run(["rm", "-rf", folder], check=True)
