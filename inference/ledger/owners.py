"""Who this process is to a ledger, and which of this machine's owners are gone."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from inference.shard import Owner

_GONE = frozenset("ZXx")  # states of a process that has ended, and that its parent has not asked for yet


def this_owner() -> Owner:
    """This process. `host` is the host's name, a hash of its machine id, and the name space that its pid counts in."""
    return Owner(_host(), _boot_id(), os.getpid(), _started(os.getpid()) or "")


def is_dead(owner: Owner) -> bool:
    """Whether the owner is known to be gone. False for one of another machine or container, which nobody here sees."""
    if owner.host != _host():
        return False
    if owner.boot_id != _boot_id():
        return bool(_machine())  # started anew since; without an id it may be another machine of the same name
    started = _started(owner.pid)
    return started != owner.started if started is not None else not _exists(owner.pid)


def _host() -> str:
    """Containers of one machine have its boot id, and may have its name, but count pids of their own."""
    try:
        name_space = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        name_space = ""
    return f"{socket.gethostname()}:{_machine()}:{name_space}"


def _machine() -> str:
    """A hash of the machine's id, which is not to be told; "" where it has none."""
    machine_id = _line(Path("/etc/machine-id"))
    return hashlib.sha256(b"glassai " + machine_id.encode()).hexdigest()[:12] if machine_id else ""


def _boot_id() -> str:
    return _line(Path("/proc/sys/kernel/random/boot_id"))


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process was started, in clock ticks since the boot; "gone" if it has ended; None if nothing shows it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets (proc_pid_stat(5))
    return "gone" if fields[0] in _GONE else fields[19]


def _exists(pid: int) -> bool:
    """Whether there is such a process, also where /proc hides those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
