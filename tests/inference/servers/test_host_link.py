"""The server's end of the socket to the host of its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference.device import Device
from inference.job_errors import JobNotFound, LedgerUnavailable
from inference.model import Signature
from inference.protocols.job_frames import Command, Event, FoundModel, Reply, Withdraw, encoded, refused
from tests.inference.host_pair import Pair, pair


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "models") as made:
        yield made


async def test_a_command_gets_its_reply(both: Pair) -> None:
    first, second = both.server.ask("show", b"1"), both.server.ask("list", b"2")
    assert await both.order(2) == Command(2, "list", b"2")
    both.host.send(encoded(Reply(2, b"two")))
    both.host.send(encoded(Reply(1, b"one")))
    assert await asyncio.wait_for(second, 10) == b"two"
    assert await asyncio.wait_for(first, 10) == b"one"


async def test_a_refusal_is_the_same_error(both: Pair) -> None:
    asked = both.server.ask("show", b"{}")
    await both.order()
    both.host.send(encoded(refused(1, JobNotFound("job_7"))))
    with pytest.raises(JobNotFound, match="job_7"):
        await asyncio.wait_for(asked, 10)


async def test_events_come_before_the_reply_to_who_asked_for_them(both: Pair) -> None:
    heard: list[tuple[str, bytes]] = []
    asked = both.server.ask("events", b"{}", lambda kind, content: heard.append((kind, content)))
    silent = both.server.ask("show", b"{}")
    await both.order(2)
    for frame in (Event(1, "progress", b"1"), Event(2, "progress", b"nobody"), Event(1, "end", b"2"), Reply(1, b"")):
        both.host.send(encoded(frame))
    both.host.send(encoded(Event(1, "progress", b"too late")))
    both.host.send(encoded(Reply(2, b"")))
    await asyncio.wait_for(asyncio.gather(asked, silent), 10)
    assert heard == [("progress", b"1"), ("end", b"2")]


async def test_who_stops_waiting_tells_the_host_and_a_late_reply_is_dropped(both: Pair) -> None:
    asked = both.server.ask("events", b"{}")
    await both.order()
    asked.cancel()
    assert await both.order(2) == Withdraw(1)
    both.host.send(encoded(Reply(1, b"late")))
    after = both.server.ask("show", b"{}")
    await both.order(3)
    both.host.send(encoded(Reply(2, b"in time")))
    assert await asyncio.wait_for(after, 10) == b"in time"


async def test_a_host_that_goes_is_told_to_whoever_waits_and_whoever_comes(both: Pair) -> None:
    asked = both.server.ask("show", b"{}")
    await both.order()
    both.host.close()
    with pytest.raises(LedgerUnavailable, match="Jobs wait"):
        await asyncio.wait_for(asked, 10)
    assert not both.server.connected
    with pytest.raises(LedgerUnavailable):
        await both.server.ask("list", b"{}")
    both.server.close()  # again, which changes nothing


@pytest.mark.parametrize(
    "pieces",
    [
        [memoryview(b"\xff" * 64)],
        encoded(FoundModel(1, "adder", 1, "", Signature((), ()), Device("cpu"), None)),
    ],
    ids=["no frame", "a frame that only a server sends"],
)
async def test_a_host_that_talks_nonsense_is_left(both: Pair, pieces: list[memoryview]) -> None:
    both.host.send(pieces)
    await asyncio.to_thread(both.thread.join, 10)
    assert both.host.closed
    while both.server.connected:
        await asyncio.sleep(0.001)
