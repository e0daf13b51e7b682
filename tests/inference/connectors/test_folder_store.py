"""Files of a folder are whole or absent, and a full or forbidden disk is told as such."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference.connectors.folder_store import LEFT_BEHIND_S, TEMPORARY, FolderStore
from inference.job_errors import StoreFull, StoreUnavailable
from tests.inference.connectors.contracts import check_store


def put(store: FolderStore, name: str, content: bytes) -> None:
    draft = store.create(name)
    draft.write(content)
    draft.commit()


def test_it_keeps_the_contract_of_stores(tmp_path: Path) -> None:
    check_store(FolderStore(tmp_path / "made" / "later"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "a\0b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name below"):
        FolderStore(tmp_path).create(name)


def test_names_are_found_by_any_beginning(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for name in ("job/parts/1.bin", "job/parts/10.bin", "job/other", "jobs/x", "top"):
        put(store, name, b"x")
    assert store.names("job/parts/1") == ["job/parts/1.bin", "job/parts/10.bin"]
    assert store.names("job") == ["job/other", "job/parts/1.bin", "job/parts/10.bin", "jobs/x"]
    assert store.names("none/") == []


def test_a_writer_that_is_killed_leaves_nothing_that_is_listed_and_what_it_left_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from inference.connectors.folder_store import FolderStore;"
        "draft = FolderStore(Path(sys.argv[1])).create('a/b'); draft.write(b'half');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = FolderStore(tmp_path)
    assert store.names("") == []
    (left,) = (tmp_path / "a").iterdir()
    assert left.name.startswith(TEMPORARY)
    store.tidy()
    assert left.exists(), "somebody may be writing it"
    long_ago_s = left.stat().st_mtime - 2 * LEFT_BEHIND_S
    os.utime(left, (long_ago_s, long_ago_s))
    store.tidy()
    assert not left.exists()


def test_content_is_synced_before_it_has_its_name_and_the_name_before_commit_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        steps.append("sync folder" if Path(f"/proc/self/fd/{handle}").resolve().is_dir() else "sync file")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    put(FolderStore(tmp_path), "new/folder/file", b"x")
    assert steps[:2] == ["sync file", "rename"]
    assert set(steps[2:]) == {"sync folder"}
    assert len(steps) == 5, "the folder of the file, and both above it, which have new entries"


def test_a_full_disk_and_any_other_trouble_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(code: int) -> None:
        def fsync(_: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    store = FolderStore(tmp_path)
    for code, expected in ((errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreUnavailable)):
        draft = store.create("a")
        draft.write(b"x")
        failing(code)
        with pytest.raises(expected):
            draft.commit()
        draft.abort()
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_really_full_is_a_store_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is not there")
    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: real_open(Path("/dev/full"), "wb"))
    draft = FolderStore(tmp_path).create("a")
    draft.write(b"x")
    with pytest.raises(StoreFull):
        draft.commit()
    draft.abort()


def test_a_folder_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"Not a directory|File exists"):
        FolderStore(tmp_path / "file").create("a")
