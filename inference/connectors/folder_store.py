"""A store in a folder of this machine: files are whole or absent, whatever is killed or loses its power when.

A file is written under a temporary name beside its own, synced, renamed, and its folder is synced; only then does
anybody hear that it is there. What a killed process left under a temporary name is never listed, and `tidy` removes it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from inference.job_errors import StoreFull, StoreUnavailable

TEMPORARY = ".writing-"
LEFT_BEHIND_S = 3600.0  # a temporary file that nobody has written to for so long belongs to nobody
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderStore:
    """Files below `root`, which is made when the first one is written; see Store.

    A name is a relative path with "/" in it. Raises ValueError for one that leads out of the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, name: str) -> FolderDraft:
        """See Store."""
        path = self._path(name)
        with _told(path):
            missing = _make_folders(path.parent)
            return FolderDraft(path, missing)

    def open(self, name: str) -> BinaryIO:
        """See Store."""
        path = self._path(name)
        with _told(path):
            return path.open("rb")

    def size(self, name: str) -> int | None:
        """See Store."""
        path = self._path(name)
        with _told(path):
            return path.stat().st_size if path.is_file() else None

    def names(self, prefix: str) -> list[str]:
        """See Store."""
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        with _told(folder):
            found = [
                (Path(where) / file).relative_to(self.root).as_posix()
                for where, _, files in os.walk(folder)
                for file in files
                if not file.startswith(TEMPORARY)
            ]
        return sorted(name for name in found if name.startswith(prefix))

    def move(self, name: str, new_name: str) -> None:
        """See Store."""
        old, new = self._path(name), self._path(new_name)
        with _told(new):
            for folder in _make_folders(new.parent):
                _sync_folder(folder)
            old.replace(new)
            _sync_folder(new.parent)
            if old.parent != new.parent:
                _sync_folder(old.parent)

    def delete(self, name: str) -> None:
        """See Store. A folder that is empty then goes too: names are all that there is."""
        path = self._path(name)
        with _told(path):
            path.unlink(missing_ok=True)
            folder = path.parent
            while folder != self.root and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent

    def tidy(self) -> None:
        """Remove temporary files of writers that are gone."""
        before_s = time.time() - LEFT_BEHIND_S
        with _told(self.root):
            for where, _, files in os.walk(self.root):
                for file in files:
                    path = Path(where) / file
                    if file.startswith(TEMPORARY) and path.stat().st_mtime < before_s:
                        path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} is no name below {self.root}")
        return self.root.joinpath(*parts)


class FolderDraft:
    """A file under its temporary name."""

    def __init__(self, path: Path, new_folders: list[Path]) -> None:
        self._path = path
        self._new_folders = new_folders
        self._temporary = path.with_name(f"{TEMPORARY}{uuid4().hex}")
        self._file: BinaryIO | None = self._temporary.open("xb")

    def write(self, content: bytes | memoryview) -> int:
        """See Draft."""
        assert self._file is not None, "the draft is over"
        with _told(self._path):
            return self._file.write(content)

    def commit(self) -> None:
        """See Draft."""
        file = self._file
        assert file is not None, "the draft is over"
        with _told(self._path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._file = None
            self._temporary.replace(self._path)
            for folder in (*self._new_folders, self._path.parent):
                _sync_folder(folder)

    def abort(self) -> None:
        """See Draft."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # closing flushes, which fails where the disk is full
            file.close()
        with _told(self._path):
            self._temporary.unlink(missing_ok=True)


def _make_folders(folder: Path) -> list[Path]:
    """Make it and those above it; the folders whose entries are new, to be synced."""
    changed = []
    above = folder
    while not above.is_dir():
        changed.append(above.parent)
        above = above.parent
    folder.mkdir(parents=True, exist_ok=True)
    return changed


def _sync_folder(folder: Path) -> None:
    """Let the names of a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Errors of the system as those of a store; that a file is not there stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull(str(path.parent)) from error
        raise StoreUnavailable(str(path), error.strerror or str(error)) from error
