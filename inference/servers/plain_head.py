"""Heads of plain predict requests: what the fast route needs of them, and those that callers send again and again.

A caller that keeps its connection sends the same head before every body, byte for byte. Once the parser has read a head
and found it plain, the same bytes mean the same, so the next request with them needs no parser: it is told by a look
into a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from inference.servers.exchange import Message
from inference.servers.http import App, PredictRoute

PLAIN_BODY_BYTES_MAX = 64 * 1024  # below it uvicorn reads on without being asked
HEADS_KEPT = 1024  # with HEAD_BYTES_MAX each and some 2 KiB of what they mean: 3 MiB at most
HEAD_BYTES_MAX = 1024
END = b"\r\n\r\n"

_NOT_PLAIN = (b"content-encoding", b"expect", b"transfer-encoding")
_NOT_IN_PATHS = (b"%", b"#")  # which would have to be decoded, or do not belong


class PlainHead(msgspec.Struct, frozen=True, eq=False):
    """Method, path and headers of a predict request whose body is small and comes as it is."""

    route: PredictRoute
    path_params: Mapping[str, str]
    scope: Message  # the part of ASGI's that handlers read; of all requests with this head
    headers: Mapping[bytes, bytes]  # by lower-case name
    body_bytes: int
    keep_alive: bool


def plain_head(app: App, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, keep_alive: bool) -> PlainHead | None:
    """The head of a POST, if it is as plain as the fast route takes; `headers` in lower case."""
    raw_path, _, query = url.partition(b"?")
    if any(sign in raw_path for sign in _NOT_IN_PATHS) or not raw_path.startswith(b"/"):
        return None
    path = raw_path.decode("latin-1")
    found = app.predict_route(path)
    named = dict(headers)
    length = named.get(b"content-length")
    if found is None or length is None or len(length) > 5 or any(name in named for name in _NOT_PLAIN):
        return None
    body_bytes = int(length)
    if body_bytes > min(PLAIN_BODY_BYTES_MAX, app.body_bytes_max):
        return None
    route, params = found
    scope: Message = {"type": "http", "method": "POST", "path": path, "query_string": query}
    return PlainHead(route, params, scope, named, body_bytes, keep_alive)


class KnownHeads:
    """Plain heads by their bytes. Bounded: who sends a new head with every request gains nothing, and harms nobody."""

    def __init__(self) -> None:
        self._heads: dict[bytes, PlainHead] = {}

    def find(self, received: bytes) -> tuple[PlainHead | None, int]:
        """The head that `received` begins with, if it is known and just its body follows; and where the body begins."""
        begins = received.find(END) + len(END)
        head = self._heads.get(received[:begins])
        if head is None or len(received) - begins != head.body_bytes:
            return None, begins
        return head, begins

    def learn(self, received: bytes, begins: int, head: PlainHead) -> None:
        """`received` was one request, whose head is this one and whose body begins there; else it is no use."""
        if not head.keep_alive or begins > HEAD_BYTES_MAX or len(received) - begins != head.body_bytes:
            return
        if len(self._heads) >= HEADS_KEPT:
            self._heads.clear()  # which are still in use come back with their next request
        self._heads[received[:begins]] = head

    def forget(self, received: bytes, begins: int) -> None:
        """What comes with this head is not as plain as it looks."""
        self._heads.pop(received[:begins], None)
