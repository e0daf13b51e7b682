"""The one timer that looks after all connections."""

from __future__ import annotations

import asyncio

from inference.decisions.slow_caller import Patience
from inference.servers.connections import LEAVE_S, LOOK_INTERVAL_S, LOOKED_AT_ONCE, ConnectionLimits, Connections
from inference.settings import ServerSettings


class Looked:
    """A connection that is looked at, and may close itself."""

    def __init__(self, all_connections: Connections, *, closes_at: int = 0) -> None:
        self.looks: list[float] = []
        self.more = asyncio.Event()
        self._all = all_connections
        self._closes_at = closes_at

    def look(self, now: float) -> None:
        self.looks.append(now)
        self.more.set()
        if len(self.looks) == self._closes_at:
            self._all.discard(self)


def limits(shortest_s: float) -> ConnectionLimits:
    return ConnectionLimits(4, 8192, 1000, Patience(shortest_s, 60.0, 20.0, 75.0, 2.0))


async def test_every_connection_is_looked_at_as_long_as_it_is_open():
    all_connections = Connections(limits(0.004))
    short, long = (Looked(all_connections, closes_at=count) for count in (1, 3))
    for connection in (short, long):
        all_connections.add(connection)
    while len(long.looks) < 3:
        long.more.clear()
        await asyncio.wait_for(long.more.wait(), 30)
    assert len(short.looks) == 1
    assert long.looks == sorted(long.looks)


async def test_others_have_their_turn_while_many_are_looked_at():
    all_connections = Connections(limits(0.004))
    many = [Looked(all_connections, closes_at=1) for _ in range(5 * LOOKED_AT_ONCE)]
    for connection in many:
        all_connections.add(connection)
    seen = set()
    while len(seen) == 0 or max(seen) < len(many):
        await asyncio.sleep(0)
        seen.add(sum(len(connection.looks) for connection in many))
    assert {LOOKED_AT_ONCE * turn for turn in range(1, 6)} <= seen


async def test_a_server_without_connections_has_no_timer():
    all_connections = Connections(limits(0.004))
    only = Looked(all_connections, closes_at=1)
    all_connections.add(only)
    await asyncio.wait_for(only.more.wait(), 30)
    assert all_connections._timer is None
    all_connections.add(Looked(all_connections))
    assert all_connections._timer is not None


def test_a_limit_is_noticed_at_most_a_quarter_late_and_never_looked_for_more_than_once_a_second():
    assert Connections(limits(0.4))._interval_s == 0.1
    assert Connections(limits(600.0))._interval_s == LEAVE_S / 4 < LOOK_INTERVAL_S


def test_the_limits_are_those_of_the_settings():
    settings = ServerSettings(header_timeout_s=1.0, body_timeout_s=2.0, stall_timeout_s=3.0, keep_alive_s=4)
    found = ConnectionLimits.of(settings, 7)
    assert found.connections_max == 7
    assert found.patience == Patience(head_s=1.0, body_s=2.0, stall_s=3.0, idle_s=4.0, leave_s=LEAVE_S)
    assert found.header_bytes_max == settings.header_bytes_max
    assert found.body_bytes_max == settings.body_bytes_max


async def test_the_headers_of_every_response_are_written_once_a_second():
    connections = Connections(limits(1.0))
    first, second = [(b"date", b"now"), (b"a", b"b")], [(b"date", b"later")]
    assert connections.default_lines(first) == b"date: now\r\na: b\r\n"
    assert connections.default_lines(first) is connections.default_lines(first)
    assert connections.default_lines(second) == b"date: later\r\n"
