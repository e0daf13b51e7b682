"""A server's engine with one model and the host of its jobs, at the two ends of a socket pair, without HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inference.engine import Engine
from inference.job_runner.server_link import Order, ServerLink
from inference.model_manager import ModelManager
from inference.monitoring.metrics import Metrics
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.servers.background_feed import BackgroundFeed
from inference.servers.host_link import HostLink
from inference.settings import HealthSettings, ModelsSettings, RuntimeSettings, Settings
from tests.inference import tiny_models
from tests.inference.test_engine import SIGNATURE, Adder

BYTES_MAX = 4000  # of a background request


@dataclass
class Pair:
    """Both ends. What the host is told lies in `orders`; `heard` is set with each."""

    engine: Engine
    adder: Adder
    server: HostLink
    host: ServerLink
    feed: BackgroundFeed
    thread: threading.Thread
    orders: list[Order] = field(default_factory=list)

    async def order(self, count: int = 1) -> Order:
        """The newest order, once there are so many."""
        while len(self.orders) < count:
            await asyncio.sleep(0.001)
        return self.orders[count - 1]


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    """The model `adder`, version 3, y = x + 1; the host reads in a thread of its own."""
    tiny_models.package(folder, "adder", 3, tiny_models.adder, "format = 1\n[limits]\nbatch_rows_max = 16\n")
    settings = Settings(
        models=ModelsSettings(folder=str(folder)),
        runtime=RuntimeSettings(profile_cache=""),
        health=HealthSettings(canary_interval_s=1000.0, canary_max_age_s=2000.0),  # nobody but the test asks
    )
    adder, engine = Adder(), Engine()
    provider = FunctionSessionProvider({"adder": FunctionSession(SIGNATURE, adder)})
    manager = ModelManager(settings, engine, provider, Metrics())
    manager.start()
    while any(
        status.answered_s is None or (status.served and status.served.profile.knee_source == "probe")
        for status in manager.index()
    ):
        await asyncio.sleep(0.001)
    adder.entered = threading.Semaphore(0)  # what loading did is over
    adder.calls.clear()
    ours, theirs = socket.socketpair()
    feeds: list[BackgroundFeed] = []

    def feed(send) -> BackgroundFeed:
        feeds.append(BackgroundFeed(manager, engine, BYTES_MAX, send))
        return feeds[0]

    ours.setblocking(False)
    _, server = await asyncio.get_running_loop().create_connection(lambda: HostLink(feed), sock=ours)
    orders: list[Order] = []
    host = ServerLink(theirs, orders.append)
    thread = threading.Thread(target=host.serve, daemon=True)
    thread.start()
    made = Pair(engine, adder, server, host, feeds[0], thread, orders)
    try:
        yield made
    finally:
        adder.gate.set()
        server.close()
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
        await engine.drain(5.0)
        await manager.stop()
