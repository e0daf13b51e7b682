"""Which file system holds a path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from inference.database.file_systems import file_system_type, network_file_system


def mounted(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str, str]) -> None:
    """Pretend that these are mounted, in this order."""
    listed = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **which: listed if which["all"] else [])


def test_the_deepest_mount_counts_and_of_two_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, ("/", "ext4"), ("/mnt/a", "nfs4"), ("/mnt/a/b", "xfs"), ("/mnt/c", "nfs"), ("/mnt/c", "tmpfs"))
    assert file_system_type(Path("/mnt/a/job/ledger.sqlite")) == "nfs4"
    assert file_system_type(Path("/mnt/a")) == "nfs4"
    assert file_system_type(Path("/mnt/a/b/x")) == "xfs"
    assert file_system_type(Path("/mnt/c/x")) == "tmpfs"
    assert file_system_type(Path("/mnt/ab")) == "ext4"
    mounted(monkeypatch)
    assert file_system_type(Path("/mnt")) == ""


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.rclone")),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "9p", "fuse.fuse-overlayfs")),
    ],
)
def test_file_systems_of_other_machines(kind: str, *, network: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, ("/", kind))
    assert network_file_system(Path("/x")) == (kind if network else None)


def test_a_link_counts_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    mounted(monkeypatch, ("/", "ext4"), (str((tmp_path / "far").resolve()), "nfs"))
    assert network_file_system(tmp_path / "link" / "ledger.sqlite") == "nfs"


def test_this_machine_says_what_holds_the_temporary_folder(tmp_path: Path) -> None:
    assert file_system_type(tmp_path)
