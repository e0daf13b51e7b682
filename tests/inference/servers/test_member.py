"""A process among several, with a parent that the test plays."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference.protocols.process_orders import (
    MESSAGE_BYTES_MAX,
    Alive,
    Orders,
    Serving,
    StopOrder,
    decoded_report,
    encoded,
)
from inference.servers import member as member_module
from inference.servers.lifecycle import MemberServer
from inference.servers.member import EXIT_ORPHANED, Member
from inference.settings import ServerSettings, Settings
from tests.inference.servers.neighbourhood import package, process


class Played:
    """The parent's end, and the process at the other."""

    def __init__(self, folder: Path) -> None:
        self.end, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(10)
        self.end.send(encoded(Orders(Settings(server=ServerSettings(drain_limit_s=3.0)), 1, 2, str(folder))))
        self.member = Member(channel)
        self._channel = channel

    def hears(self) -> Any:
        return decoded_report(self.end.recv(MESSAGE_BYTES_MAX))

    def close(self) -> None:
        self.end.close()
        self._channel.close()


@dataclass
class LastResort:
    """What an orphan does in the end: how long it slept, and the status with which it would have ended."""

    slept_s: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@pytest.fixture
def last_resort(monkeypatch: pytest.MonkeyPatch) -> Iterator[LastResort]:
    found = LastResort()
    monkeypatch.setattr(member_module.time, "sleep", found.slept_s.append)
    monkeypatch.setattr(member_module.os, "_exit", found.statuses.append)
    yield found
    obedient = [thread for thread in threading.enumerate() if thread.name == "parent"]
    for thread in obedient:  # none may be left for the time after this test
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def played(tmp_path: Path, last_resort: LastResort) -> Iterator[Played]:
    found = Played(tmp_path)
    yield found
    found.close()


class ServerTwin:
    """Serves until it is stopped, and remembers how."""

    def __init__(self) -> None:
        self.served = False
        self.stops: list[bool] = []
        self._stopped = asyncio.Event()

    async def serve(self, sockets: list[socket.socket]) -> None:
        self.served = True
        await self._stopped.wait()

    def stop(self, *, hurry: bool = False) -> None:
        self.stops.append(hurry)
        self._stopped.set()


async def serve(member: Member, server: ServerTwin) -> None:
    twin: Any = server
    with socket.socket() as listener:
        await asyncio.wait_for(member.serve(twin, listener), 10)


async def test_it_says_at_once_that_it_lives_and_then_what_it_serves(played: Played) -> None:
    played.member.start()
    played.member.tell(Serving(("lstm",)))
    assert [played.hears(), played.hears()] == [Alive(), Serving(("lstm",))]
    assert (played.member.orders.process, played.member.orders.processes) == (1, 2)


async def test_it_goes_on_saying_so(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_module, "ALIVE_INTERVAL_S", 0.001)
    played.member.start()
    heard = await asyncio.to_thread(lambda: [played.hears() for _ in range(3)])
    assert heard == [Alive()] * 3


@pytest.mark.parametrize("hurry", [False, True])
async def test_it_stops_as_it_is_told(played: Played, *, hurry: bool) -> None:
    server = ServerTwin()
    played.member.start()
    serving = asyncio.create_task(serve(played.member, server))
    while not server.served:
        await asyncio.sleep(0)
    played.end.send(encoded(StopOrder(hurry)))
    await serving
    assert server.stops == [hurry]
    assert not played.member.orphaned


async def test_it_does_not_begin_to_serve_when_it_was_told_to_stop(played: Played) -> None:
    class Loading:
        def index(self) -> list[Any]:
            return [type("Status", (), {"state": "loading"})]

    models: Any = Loading()
    server = ServerTwin()
    played.end.send(encoded(StopOrder()))
    played.member.start()
    await asyncio.wait_for(played.member.when_loaded(models), 10)
    await serve(played.member, server)
    assert not server.served


async def test_a_replacement_waits_until_its_models_are_loaded(played: Played) -> None:
    states = iter(["loading", "loading", "ready"])

    class Models:
        def index(self) -> list[Any]:
            return [type("Status", (), {"state": next(states)})]

    models: Any = Models()
    played.member.start()
    await asyncio.wait_for(played.member.when_loaded(models), 10)
    assert next(states, "asked until it was ready") == "asked until it was ready"


async def test_without_its_parent_it_stops_and_ends_even_if_it_hangs(played: Played, last_resort: LastResort) -> None:
    server = ServerTwin()
    played.member.start()
    serving = asyncio.create_task(serve(played.member, server))
    while not server.served:
        await asyncio.sleep(0)
    played.end.close()
    await serving
    assert server.stops == [False]
    assert played.member.orphaned
    while not last_resort.statuses:
        await asyncio.sleep(0)
    assert last_resort.statuses == [EXIT_ORPHANED]
    assert last_resort.slept_s == [3.0 + member_module.ORPHAN_MARGIN_S]


async def test_a_parent_that_does_not_read_holds_nothing_up(played: Played) -> None:
    for _ in range(10_000):
        played.member.tell(Alive())
    played.end.close()
    played.member.tell(Alive())


def test_an_orphan_takes_its_files_and_the_last_one_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "glassai-x"
    folder.mkdir()
    for name in ("0.sock", "1.sock", "1.counters"):
        (folder / name).touch()
    played = Played(folder)
    played.member.tidy_up()
    assert len(list(folder.iterdir())) == 3  # the parent does that
    played.member.orphaned = True
    played.member.tidy_up()
    assert [path.name for path in folder.iterdir()] == ["0.sock"]
    (folder / "0.sock").unlink()
    played.member.tidy_up()
    assert not folder.exists()
    played.close()


async def test_a_signal_that_comes_twice_is_one_stop(tmp_path: Path) -> None:
    async with process(package(tmp_path / "models"), tmp_path, 0) as own:
        server = MemberServer(own.app, own.engine, ServerSettings())
        server._loop = asyncio.get_running_loop()
        for _ in range(2):
            server.handle_exit(15, None)
        while server._drain is None:
            await asyncio.sleep(0)
        await server._drain
    assert (server.should_exit, server.force_exit) == (True, False)
