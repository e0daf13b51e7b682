"""The contract of stores, which hold files under names: a folder, a prefix of an object store, or memory.

A store is rooted above the output, so that the output and the job's own folder beside it are names of one store.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol


class Draft(Protocol):
    """A file that nobody sees yet."""

    def write(self, content: bytes | memoryview) -> int:
        """Append bytes. Raises StoreFull, StoreUnavailable."""
        ...

    def commit(self) -> None:
        """The file is there whole, under its name, whatever was there before; synced where there is something to sync.

        Raises StoreFull, StoreUnavailable.
        """
        ...

    def abort(self) -> None:
        """Nothing of it stays; no-op after `commit`."""
        ...


class Store(Protocol):
    """Files under names such as "a/b.parquet", below one folder or prefix. Raises StoreUnavailable."""

    def create(self, name: str) -> Draft:
        """A new file."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file to read, with `seek`. Raises FileNotFoundError."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if it is not there."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Files whose names begin so, sorted."""
        ...

    def move(self, name: str, new_name: str) -> None:
        """Give a file another name, at once or, in an object store, by a copy. Raises FileNotFoundError."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; no-op if it is not there."""
        ...
