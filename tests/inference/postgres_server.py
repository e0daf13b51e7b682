"""A real PostgreSQL server on a free port, which ends with the process that started it, however that ends."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psycopg

PACKAGED = Path("/usr/lib/postgresql")  # Debian keeps the server's programs out of PATH
LIMIT_S = 60.0
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_PR_SET_PDEATHSIG = 1  # prctl(2)


def server_programs() -> Path | None:
    """The folder of the server's programs, of the newest version; None where there is none."""
    folders = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    folders += sorted(PACKAGED.glob("*/bin"), key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0))[::-1]
    return next(
        (folder for folder in folders if all((folder / name).exists() for name in ("postgres", "initdb"))), None
    )


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class PostgresServer:
    """Owns the server and its folder; leaving it as a context ends both. The server never runs as root."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="glassai-postgres-"))
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._user = _unprivileged()

    def __enter__(self) -> PostgresServer:
        try:
            if self._user is not None:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            options = ["--auth=trust", "--username=glassai", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            done = self._start([self.programs / "initdb", "-D", self.folder / "data", *options])
            assert done.wait(LIMIT_S) == 0, self.log()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """How a ledger names a database of this server."""
        return f"postgresql://glassai@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """One statement as the administrator."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)  # pyrefly: ignore[no-matching-overload] - a statement of the tests

    def start(self) -> None:
        """Listen, on the port of before if it is started again."""
        self.port = self.port or free_port()
        log = ["-c", "log_min_messages=fatal", "-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1"]
        # Nothing is synced to the disk: a server that is killed leaves what the kernel has.
        options = [*log, "-c", "fsync=off", "-c", "max_connections=100", "-p", str(self.port)]
        self.process = self._start([self.programs / "postgres", "-D", self.folder / "data", *options])
        end = time.monotonic() + LIMIT_S
        while not self._answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.02)

    def stop(self, how: str = "fast") -> None:
        """End it: `fast` closes connections and tidies up, `immediate` is as if the machine had lost its power."""
        assert self.process is not None
        self.process.send_signal(_SIGNALS[how])
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.wait(LIMIT_S)
            self.process = None

    def log(self) -> str:
        """What its programs have said."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _start(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        user, group = (None, None) if self._user is None else (self._user.pw_uid, self._user.pw_gid)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                user=user,
                group=group,
                extra_groups=None if self._user is None else [],
                start_new_session=True,  # Ctrl-C is for the tests, which then end the server
                preexec_fn=_end_with_parent,
            )


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as where we are root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
