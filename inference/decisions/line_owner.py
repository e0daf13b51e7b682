"""Which of several server processes a production line belongs to."""

from __future__ import annotations

from hashlib import blake2b


def owner_of(model: str, stream_id: str, processes: int) -> int:
    """The process, from 0, that holds this line: the same in every process, in every run, on every machine."""
    name = f"{model}\0{stream_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") % processes
