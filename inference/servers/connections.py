"""All connections of a server: what one of them may take, and the one timer that looks after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from inference.decisions.slow_caller import Patience
from inference.servers.plain_head import KnownHeads
from inference.settings import ServerSettings

LEAVE_S = 2.0  # for the caller's part of a close
LOOK_INTERVAL_S = 1.0  # between two looks at all connections, some 3 us each
LOOKED_AT_ONCE = 100  # before others have their turn


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What one connection, and all of them, may take."""

    connections_max: int
    header_bytes_max: int
    body_bytes_max: int
    patience: Patience

    @classmethod
    def of(cls, settings: ServerSettings, connections_max: int) -> ConnectionLimits:
        """The limits that the settings ask for."""
        patience = Patience(
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.stall_timeout_s,
            settings.keep_alive_s,
            LEAVE_S,
        )
        return cls(connections_max, settings.header_bytes_max, settings.body_bytes_max, patience)


class LookedAfter(Protocol):
    """A connection as the timer sees it."""

    def look(self, now: float) -> None:
        """Do what is due at `now` of the loop's clock."""
        ...


def _nobody_listens() -> None:
    pass


class Connections:
    """Looks at every connection now and then, as long as there is one."""

    def __init__(self, limits: ConnectionLimits, heard: Callable[[], None] = _nobody_listens) -> None:
        self.limits = limits
        self.heard = heard  # told whenever bytes are read
        self.known_heads = KnownHeads()
        self._open: set[LookedAfter] = set()
        self._interval_s = min(LOOK_INTERVAL_S, limits.patience.shortest_s / 4)
        self._timer: asyncio.Handle | None = None
        self._default_headers: Sequence[tuple[bytes, bytes]] = ()
        self._default_lines = b""

    def default_lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Headers that every response has, as they are sent; uvicorn makes them anew once a second."""
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._default_lines

    def add(self, connection: LookedAfter) -> None:
        """Look after this connection too."""
        self._open.add(connection)
        if self._timer is None:
            self._arm()

    def discard(self, connection: LookedAfter) -> None:
        """It is closed, or somebody else's."""
        self._open.discard(connection)

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_s, lambda: self._look(list(self._open)))

    def _look(self, due: list[LookedAfter]) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in due[:LOOKED_AT_ONCE]:
            if connection in self._open:
                connection.look(now)
        rest = due[LOOKED_AT_ONCE:]
        self._timer = None
        if rest:
            self._timer = loop.call_soon(self._look, rest)
        elif self._open:
            self._arm()
