"""Every background request is answered once, beside live callers who meet nothing of it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator

import numpy as np
import pytest

from inference.decisions.background_share import BackgroundPolicy
from inference.decisions.scheduler import QueuePolicy
from inference.engine import Engine
from inference.errors import InputsRejected, QueueFull, RunHung, Stopping
from inference.request import Answer, Prediction, Priority, Request
from inference.runtime.function_session import FunctionSession
from tests.inference.requests import KEY, request
from tests.inference.test_engine import SHORT, SIGNATURE, Adder, Stuck, entered, service

TIMINGS_S = {1: 0.001, 8: 0.008}  # a millisecond a row, so that 5 rows are a background batch


def job(name: str = "job", rows: int = 1, first: float = 0.0) -> Request:
    made = request(name, rows, timeout_s=math.inf, priority=Priority.BACKGROUND)
    made.inputs["x"] += np.float32(first)
    return made


def ask(engine: Engine, made: Request) -> asyncio.Future[Answer]:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    engine.background.submit(made, future.set_result)
    return future


def opened(adder: Adder, knee: int | None = 8) -> Engine:
    engine = Engine()
    made = service(FunctionSession(SIGNATURE, adder), knee)
    queue = QueuePolicy(str(KEY), knee, background=BackgroundPolicy(0.005, 0.05))
    engine.open(dataclasses.replace(made, queue=queue, timings_s=TIMINGS_S))
    return engine


@pytest.fixture
def adder() -> Adder:
    return Adder()


@pytest.fixture
async def engine(adder: Adder) -> AsyncIterator[Engine]:
    made = opened(adder)
    yield made
    adder.gate.set()
    assert made.close(KEY)


async def test_its_rows_run_in_cuts_and_come_back_in_order(engine: Engine, adder: Adder) -> None:
    prediction = await ask(engine, job(rows=17))
    assert isinstance(prediction, Prediction)
    assert prediction.outputs["y"].ravel().tolist() == [row + 1 for row in range(17)]
    assert sum(adder.calls) == 17
    assert max(adder.calls) <= 5
    assert engine.background.waiting == 0


async def test_one_that_fits_is_answered_with_its_timings(engine: Engine) -> None:
    prediction = await ask(engine, job(rows=2))
    assert isinstance(prediction, Prediction)
    assert (prediction.id, prediction.model, prediction.timings.batch_rows) == ("job", KEY, 2)


async def test_a_live_caller_goes_before_what_is_left_and_never_into_its_batch(engine: Engine, adder: Adder) -> None:
    adder.gate.clear()
    background = ask(engine, job(rows=10))
    await entered(adder)
    live = [engine.ask(request(f"r{n}", now=engine.clock())) for n in range(3)]
    adder.gate.set()
    await asyncio.gather(*live)
    assert adder.calls[1] == 3
    assert isinstance(await background, Prediction)
    assert sorted(adder.calls) == sorted([3, *(rows for rows in adder.calls if rows != 3)])
    assert sum(adder.calls) == 13


async def test_scaling_and_live_counters_see_nothing_of_it(engine: Engine, adder: Adder) -> None:
    before = engine.loads()[KEY]
    await ask(engine, job(rows=10))
    assert engine.waiting_callers == 0
    assert engine.is_calm()
    after = engine.loads()[KEY]
    assert dataclasses.replace(after, row_s=0.0) == dataclasses.replace(before, row_s=0.0)
    assert engine.scheduler(KEY).background.rows_run == 10


async def test_a_failing_row_fails_its_request_and_runs_no_more_of_it(engine: Engine, adder: Adder) -> None:
    adder.poison = 3.0
    answer = await ask(engine, job(rows=40))
    assert isinstance(answer, InputsRejected)
    assert sum(adder.calls) < 40
    adder.poison = None
    assert isinstance(await ask(engine, job("next", 3)), Prediction)


async def test_more_than_may_wait_are_refused_and_do_not_count_as_load(engine: Engine, adder: Adder) -> None:
    adder.gate.clear()
    asked = [ask(engine, job(f"r{n}")) for n in range(3)]
    assert isinstance(await asked[2], QueueFull)
    assert engine.loads()[KEY].refused_rows == 0
    adder.gate.set()
    assert all(isinstance(answer, Prediction) for answer in await asyncio.gather(*asked[:2]))


async def test_who_withdraws_is_never_answered_and_what_has_not_started_never_runs(
    engine: Engine, adder: Adder
) -> None:
    adder.gate.clear()
    gone = job("gone", 10)
    future = ask(engine, gone)
    await entered(adder)
    engine.background.cancel(gone)
    engine.background.cancel(gone)  # told twice, once is enough
    after = ask(engine, job("after"))
    adder.gate.set()
    assert isinstance(await after, Prediction)
    assert not future.done()
    assert adder.calls[1:] == [1]


async def test_a_stop_waits_for_no_background_rows(adder: Adder) -> None:
    engine = opened(adder)
    adder.gate.clear()
    background = ask(engine, job(rows=10))
    await entered(adder)
    assert await engine.drain(10)
    assert isinstance(await background, Stopping)
    assert isinstance(await ask(engine, job()), Stopping)
    adder.gate.set()
    assert await asyncio.to_thread(lambda: True)
    assert engine.close(KEY)


async def test_a_version_that_closes_tells_its_jobs_and_one_that_is_not_open_refuses(adder: Adder) -> None:
    engine = opened(adder)
    adder.gate.clear()
    background = ask(engine, job(rows=10))
    await entered(adder)
    adder.gate.set()
    assert engine.close(KEY)
    assert isinstance(await background, Stopping)
    assert isinstance(await ask(engine, job()), Stopping)


async def test_a_canary_among_background_rows_is_answered(engine: Engine, adder: Adder) -> None:
    """Work of the server's own and live callers get a runner, however many background rows there are."""
    going = True

    def again(_: Answer) -> None:
        if going:
            engine.background.submit(job(rows=40), again)

    again(Stopping())
    again(Stopping())
    assert await engine.when_quiet(KEY, lambda: "measured") == "measured"
    assert isinstance(await engine.predict(request("canary", now=engine.clock())), Prediction)
    going = False


async def test_a_background_run_that_hangs_is_stopped_and_told() -> None:
    engine, stuck = Engine(watch=SHORT), Stuck(obeys=True)
    engine.open(service(stuck.session(), 8))
    assert isinstance(await ask(engine, job()), RunHung)
    assert engine.hung_s(KEY) == 0.05
    assert isinstance(await ask(engine, job("after")), Prediction)
    assert engine.hung_s(KEY) is None
    assert engine.close(KEY)


async def test_a_background_run_that_cannot_be_stopped_is_told_and_its_thread_replaced() -> None:
    engine, stuck = Engine(watch=SHORT), Stuck(obeys=False)
    engine.open(service(stuck.session(), 8))
    assert isinstance(await ask(engine, job(rows=3)), RunHung)
    assert engine.scheduler(KEY).runners == 1
    stuck.free.set()
    assert isinstance(await ask(engine, job("after")), Prediction)
    assert engine.close(KEY)
