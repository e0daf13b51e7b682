"""Who a process is, and which owners of this machine are gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from inference.ledger import owners
from inference.ledger.owners import is_dead, this_owner
from inference.shard import Owner

SAY = "from inference.ledger.owners import this_owner; print(this_owner(), flush=True); input()"


def child() -> tuple[subprocess.Popen[str], Owner]:
    """A process that waits, and who it says that it is."""
    process = subprocess.Popen([sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Owner.read(process.stdout.readline().strip())


def test_this_process_lives_and_is_always_the_same() -> None:
    me = this_owner()
    assert me == this_owner() == Owner.read(str(me))
    assert (me.pid, me.host.split(":")[0]) == (os.getpid(), socket.gethostname())
    assert me.started.isdigit()
    assert me.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert not is_dead(me)


def test_a_process_is_dead_once_it_has_ended_also_before_its_parent_asks() -> None:
    process, owner = child()
    assert (owner.pid, owner.host, owner.boot_id) == (process.pid, this_owner().host, this_owner().boot_id)
    assert not is_dead(owner)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(owner)
    process.communicate()
    assert is_dead(owner)


def test_a_pid_that_is_used_again_is_somebody_else() -> None:
    assert is_dead(replace(this_owner(), started="1"))


def test_owners_of_other_machines_and_containers_are_not_judged() -> None:
    me = this_owner()
    name, machine, name_space = me.host.split(":")
    for host in (f"x:{machine}:{name_space}", f"{name}:{machine}:1", f"{name}:0815:{name_space}"):
        assert not is_dead(replace(me, host=host, pid=2**22 + 1))
        assert not is_dead(replace(me, host=host, boot_id="another"))


def test_what_ran_before_the_machine_was_started_anew_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, dead in (("3fa", True), ("", False)):  # without an id it may be another one of this name
        monkeypatch.setattr(owners, "_machine", lambda machine=machine: machine)
        assert is_dead(replace(this_owner(), boot_id="another")) is dead


def test_where_proc_hides_processes_only_a_pid_that_nobody_has_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_owner()
    monkeypatch.setattr(owners, "_started", lambda _: None)
    assert not is_dead(me)
    assert is_dead(replace(me, pid=2**22 + 1))  # above pid_max


def test_a_name_with_blanks_and_brackets_is_no_hindrance(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 2 (x"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        started = owners._started(process.pid)
        assert started is not None
        assert int(started) >= int(this_owner().started)
    finally:
        process.kill()
        process.wait()


def test_a_machine_that_tells_nothing_still_names_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "Path", lambda _: Path("/nowhere"))
    owner = this_owner()
    assert owner == Owner(f"{socket.gethostname()}::", "", os.getpid(), "")
    assert not is_dead(owner)
