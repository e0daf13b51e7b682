"""A session over the socket keeps the contract of a session, and runs in the engine's background band."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from inference.decisions.background_band import REQUESTS_MAX
from inference.errors import InputsRejected, ModelNotFound, Stopping, TooLarge, VersionNotFound
from inference.job_runner.engine_session import EngineSession
from inference.runtime.session import RunStopped, Session
from inference.tensor import Tensors
from tests.inference.host_pair import Pair, pair
from tests.inference.requests import request
from tests.inference.test_engine import SIGNATURE, entered


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "models") as made:
        yield made


async def find(both: Pair, name: str = "adder", version: int | None = None) -> EngineSession:
    return await asyncio.to_thread(EngineSession.find, both.host, name, version)


def rows(count: int, first: float = 0.0) -> Tensors:
    return {"x": np.arange(first, first + count, dtype=np.float32).reshape(count, 1)}


async def test_it_is_a_session_of_the_version_that_is_served(both: Pair) -> None:
    session: Session = await find(both)
    assert session.signature == SIGNATURE
    assert session.device.provider == "cpu"
    assert session.unready == ""
    model = (await find(both)).model
    assert (model.name, model.version, len(model.sha256)) == ("adder", 3, 64)
    assert model.batch_rows is not None
    assert model.batch_rows >= 1


async def test_what_is_not_served_is_refused_by_name(both: Pair) -> None:
    with pytest.raises(ModelNotFound, match="addr"):
        await find(both, "addr")
    with pytest.raises(VersionNotFound, match="9"):
        await find(both, "adder", 9)


async def test_rows_come_back_in_order_whatever_the_engine_cuts(both: Pair) -> None:
    session = await find(both)
    outputs = await asyncio.to_thread(session.run, rows(700))
    assert outputs["y"].ravel().tolist() == [row + 1 for row in range(700)]
    assert both.engine.scheduler(("adder", 3)).background.rows_run == 700


async def test_several_threads_share_the_places(both: Pair) -> None:
    session = await find(both)
    inputs = [rows(20, 100.0 * n) for n in range(6)]
    answers = await asyncio.gather(*(asyncio.to_thread(session.run, each) for each in inputs))
    for each, outputs in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(outputs["y"], each["x"] + 1)


async def test_no_more_are_under_way_than_the_server_takes(both: Pair) -> None:
    session = await find(both)
    both.adder.gate.clear()
    runs = [asyncio.create_task(asyncio.to_thread(session.run, rows(1))) for _ in range(REQUESTS_MAX + 2)]
    await entered(both.adder)
    while both.engine.background.waiting < REQUESTS_MAX:
        await asyncio.sleep(0.001)
    both.adder.gate.set()
    assert len(await asyncio.gather(*runs)) == REQUESTS_MAX + 2


async def test_a_row_that_makes_the_model_fail_is_told_as_to_a_live_caller(both: Pair) -> None:
    session = await find(both)
    both.adder.poison = 5.0
    with pytest.raises(InputsRejected, match="poisonous"):
        await asyncio.to_thread(session.run, rows(10))
    both.adder.poison = None
    assert len((await asyncio.to_thread(session.run, rows(10)))["y"]) == 10


async def test_rows_that_are_too_large_are_refused(both: Pair) -> None:
    session = await find(both)
    with pytest.raises(TooLarge, match=r"queue\.bytes_max"):
        await asyncio.to_thread(session.run, rows(2000))


async def test_a_stop_ends_a_run_and_withdraws_what_has_not_started(both: Pair) -> None:
    session = await find(both)
    seat = session.seat()
    both.adder.gate.clear()
    running = asyncio.create_task(asyncio.to_thread(seat.run, rows(500)))
    await entered(both.adder)
    seat.stop()
    with pytest.raises(RunStopped):
        await running
    while both.engine.background.waiting:
        await asyncio.sleep(0.001)
    both.adder.gate.set()
    with pytest.raises(RunStopped):
        await asyncio.to_thread(seat.run, rows(1))
    seat.reset()
    assert (await asyncio.to_thread(seat.run, rows(2)))["y"].ravel().tolist() == [1.0, 2.0]
    assert sum(both.adder.calls) < 500
    seat.close()


async def test_a_stop_ends_the_wait_for_a_place(both: Pair) -> None:
    session = await find(both)
    both.adder.gate.clear()
    others = [asyncio.create_task(asyncio.to_thread(session.run, rows(1))) for _ in range(REQUESTS_MAX)]
    while both.engine.background.waiting < REQUESTS_MAX:
        await asyncio.sleep(0.001)
    seat, began = session.seat(), threading.Event()

    def run() -> None:
        began.set()
        seat.run(rows(1))

    waiting = asyncio.create_task(asyncio.to_thread(run))
    await asyncio.to_thread(began.wait, 10)
    seat.stop()
    with pytest.raises(RunStopped):
        await waiting
    both.adder.gate.set()
    await asyncio.gather(*others)


async def test_a_server_that_goes_is_told_to_whoever_waits_and_whoever_comes(both: Pair) -> None:
    session = await find(both)
    both.adder.gate.clear()
    running = asyncio.create_task(asyncio.to_thread(session.run, rows(10)))
    await entered(both.adder)
    both.server.close()
    with pytest.raises(Stopping):
        await running
    assert session.unready == "the server is gone"
    with pytest.raises(Stopping):
        await asyncio.to_thread(session.run, rows(1))
    both.adder.gate.set()


async def test_live_callers_go_first(both: Pair) -> None:
    session = await find(both)
    both.adder.gate.clear()
    background = asyncio.create_task(asyncio.to_thread(session.run, rows(900)))
    await entered(both.adder)
    live = both.engine.ask(request("live", now=both.engine.clock(), key=("adder", 3)))
    both.adder.gate.set()
    await live
    assert both.adder.calls[:2] == [both.adder.calls[0], 1]
    await background
