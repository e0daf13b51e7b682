"""The engine answers every accepted request once, whatever happens to it on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.run_watch import WatchPolicy
from inference.decisions.runner_load import RunnerBounds
from inference.decisions.scheduler import QueuePolicy
from inference.engine import Engine
from inference.errors import (
    DeadlinePassed,
    DeadlineUnreachable,
    InferenceError,
    InputsRejected,
    QueueFull,
    RunFailed,
    RunHung,
    Stopping,
)
from inference.lane import Service
from inference.model import Signature
from inference.monitoring.counters import VersionMetrics
from inference.request import Prediction, Priority
from inference.runtime.function_session import FunctionSession
from inference.tensor import Tensors, TensorSpec
from tests.inference.requests import KEY, request

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
CANARY = {"x": np.zeros((1, 1), np.float32)}


class Adder:
    """y = x + 1. Notes each call's rows; holds calls while its gate is closed; fails on rows of a given value."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.poison: float | None = None

    def __call__(self, inputs: Tensors) -> Tensors:
        self.entered.release()
        assert self.gate.wait(30)
        x = inputs["x"]
        self.calls.append(len(x))
        if self.poison is not None and (x == self.poison).any():
            raise ValueError("a poisonous row")
        return {"y": x + 1}


@pytest.fixture
def adder() -> Adder:
    return Adder()


def service(session: FunctionSession, knee: int | None, *, runners: int = 1, rows_max: int = 100) -> Service:
    return Service(
        KEY,
        session,
        QueuePolicy(str(KEY), knee),
        AdmissionPolicy(str(KEY), rows_max, 10_000),
        RunnerBounds(runners),
        knee is not None,
        CANARY,
        VersionMetrics(KEY),
    )


Open = Callable[..., Engine]


@pytest.fixture
async def opened(adder: Adder) -> AsyncIterator[Open]:
    engines: list[Engine] = []

    def make(
        knee: int | None = 4,
        *,
        runners: int = 1,
        rows_max: int = 100,
        canary_runs: bool = True,
        timings_s: dict[int, float] | None = None,
    ) -> Engine:
        engine = Engine()
        engines.append(engine)
        made = service(FunctionSession(SIGNATURE, adder), knee, runners=runners, rows_max=rows_max)
        engine.open(dataclasses.replace(made, canary_runs=canary_runs, timings_s=timings_s or {}))
        return engine

    yield make
    adder.gate.set()
    for engine in engines:
        assert engine.close(KEY)


async def entered(adder: Adder) -> None:
    """Until a call is inside the session."""
    assert await asyncio.to_thread(adder.entered.acquire, timeout=30)


async def test_a_lone_request_is_answered_with_its_timings(opened: Open):
    engine = opened()
    prediction = await engine.predict(request("a", rows=2, now=engine.clock()))
    assert prediction.outputs["y"].tolist() == [[1.0], [2.0]]
    assert prediction.model == KEY
    assert prediction.timings.batch_rows == 2
    assert prediction.timings.queue_s >= 0
    assert prediction.timings.run_s > 0


async def test_what_queues_meanwhile_shares_a_batch_and_everyone_gets_their_own_rows(opened: Open, adder: Adder):
    engine = opened(knee=8)
    adder.gate.clear()
    first = engine.ask(request("first", now=engine.clock()))
    await entered(adder)
    others = [engine.ask(request(f"r{n}", rows=n, now=engine.clock())) for n in (1, 2, 3)]
    adder.gate.set()
    for answer, rows in zip(await asyncio.gather(first, *others), (1, 1, 2, 3), strict=True):
        assert answer.outputs["y"].ravel().tolist() == [row + 1 for row in range(rows)]
    assert adder.calls == [1, 6]


async def test_a_request_above_the_knee_is_cut_and_put_together_in_order(opened: Open, adder: Adder):
    engine = opened(knee=4, runners=2)
    prediction = await engine.predict(request("big", rows=11, now=engine.clock()))
    assert prediction.outputs["y"].ravel().tolist() == [row + 1 for row in range(11)]
    assert sorted(adder.calls) == [3, 4, 4]


async def test_of_a_failing_batch_only_the_guilty_request_fails(opened: Open, adder: Adder):
    engine = opened(knee=16)
    adder.poison = 5.0  # only the request with more than 5 rows holds this value
    adder.gate.clear()
    first = engine.ask(request("first", now=engine.clock()))
    await entered(adder)
    asked = [engine.ask(request(f"r{rows}", rows=rows, now=engine.clock())) for rows in (1, 2, 6, 3)]
    adder.gate.set()
    answers = await asyncio.gather(first, *asked)
    failed = [answer for answer in answers if isinstance(answer, InferenceError)]
    assert [type(error) for error in failed] == [InputsRejected]
    assert answers[3] is failed[0]


async def test_where_no_canary_runs_the_first_answered_request_tells_who_is_to_blame(opened: Open, adder: Adder):
    engine = opened(knee=None, canary_runs=False)
    adder.poison = 0.0  # the canary's own value
    with pytest.raises(RunFailed):  # nobody knows inputs that run
        await engine.predict(request("bad", now=engine.clock()))
    good = request("good", now=engine.clock())
    good.inputs["x"][0, 0] = 7.0
    await engine.predict(good)
    with pytest.raises(InputsRejected):
        await engine.predict(request("bad again", now=engine.clock()))


async def test_a_failing_slice_ends_the_whole_cut_request(opened: Open, adder: Adder):
    engine = opened(knee=4)
    adder.poison = 1.0
    with pytest.raises(InputsRejected):
        await engine.predict(request("big", rows=40, now=engine.clock()))
    adder.poison = None
    await engine.predict(request("next", now=engine.clock()))
    assert sum(adder.calls) < 40
    assert engine.waiting_callers == 0


async def test_who_hangs_up_never_runs(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    first = engine.ask(request("first", now=engine.clock()))
    await entered(adder)
    gone = asyncio.ensure_future(engine.predict(request("gone", rows=3, now=engine.clock())))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert engine.scheduler(KEY).waiting_rows == 0
    adder.gate.set()
    await first
    assert adder.calls == [1]


async def test_a_deadline_answers_the_caller_while_the_model_still_runs(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    asked = engine.ask(request("slow", now=engine.clock(), timeout_s=0.02))
    queued = engine.ask(request("behind", now=engine.clock(), timeout_s=0.03))
    for answer in await asyncio.gather(asked, queued):
        assert isinstance(answer, DeadlinePassed)
    adder.gate.set()
    prediction = await engine.predict(request("after", now=engine.clock()))
    assert prediction.outputs["y"].tolist() == [[1.0]]


async def test_a_full_queue_refuses_at_once(opened: Open, adder: Adder):
    engine = opened(rows_max=1)
    adder.gate.clear()
    running = engine.ask(request("running", now=engine.clock()))
    waiting = engine.ask(request("waiting", now=engine.clock()))
    with pytest.raises(QueueFull):
        await engine.predict(request("refused", now=engine.clock()))
    adder.gate.set()
    await asyncio.gather(running, waiting)


async def test_a_drain_answers_what_was_accepted_and_refuses_what_comes(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    accepted = [engine.ask(request(f"r{n}", now=engine.clock())) for n in range(9)]
    draining = asyncio.ensure_future(engine.drain(30))
    await asyncio.sleep(0)
    with pytest.raises(Stopping):
        await engine.predict(request("late", now=engine.clock()))
    adder.gate.set()
    assert await draining
    assert all(not isinstance(answer, InferenceError) for answer in await asyncio.gather(*accepted))


async def test_a_drain_that_reaches_its_limit_tells_who_still_waits(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    stuck = engine.ask(request("stuck", now=engine.clock()))
    assert not await engine.drain(0.02)
    assert isinstance(await stuck, Stopping)


async def test_a_version_that_is_not_open_refuses():
    engine = Engine()
    with pytest.raises(Stopping):
        await engine.predict(request("a", now=engine.clock()))


async def test_work_of_the_servers_own_waits_for_a_quiet_moment(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    asked = engine.ask(request("first", now=engine.clock()))
    await entered(adder)
    quiet = asyncio.ensure_future(engine.when_quiet(KEY, lambda: len(adder.calls)))
    second = engine.ask(request("second", now=engine.clock()))
    adder.gate.set()
    assert await quiet == 2
    await asyncio.gather(asked, second)


async def test_an_error_of_quiet_work_reaches_who_asked_and_the_runner_lives(opened: Open):
    engine = opened()
    with pytest.raises(ZeroDivisionError):
        await engine.when_quiet(KEY, lambda: 1 // 0)
    await engine.predict(request("after", now=engine.clock()))


async def test_outputs_that_are_not_finite_are_named(opened: Open):
    engine = opened()
    made = request("inf", now=engine.clock())
    made.inputs["x"][0, 0] = np.inf
    assert (await engine.predict(made)).non_finite == ("y",)


async def test_closing_tells_who_waits(opened: Open, adder: Adder):
    engine = opened()
    adder.gate.clear()
    asked = engine.ask(request("a", now=engine.clock()))
    await entered(adder)
    adder.gate.set()
    engine.close(KEY)
    assert isinstance(await asked, Stopping)
    engine.open(service(FunctionSession(SIGNATURE, adder), 4))


async def test_runners_come_and_go_while_requests_are_answered(opened: Open, adder: Adder):
    engine = opened(knee=1)
    adder.gate.clear()
    asked = [engine.ask(request(f"r{n}", now=engine.clock())) for n in range(3)]
    await entered(adder)
    engine.grow(KEY, 2)
    await entered(adder)
    await entered(adder)  # all three are inside the session
    assert engine.scheduler(KEY).runners == 3
    engine.shrink(KEY, 2)
    assert engine.scheduler(KEY).runners == 1
    adder.gate.set()
    assert all(isinstance(answer, Prediction) for answer in await asyncio.gather(*asked))
    assert isinstance(await engine.ask(request("after", now=engine.clock())), Prediction)
    load = engine.loads()[KEY]
    assert (load.arrived_rows, load.finished_rows, load.batches, load.runners) == (4, 4, 4, 1)


async def test_what_cannot_be_in_time_is_refused_by_its_headers_alone_and_whole(opened: Open):
    engine = opened(knee=1, timings_s={1: 0.5})
    soon = engine.clock() + 0.1
    unread = engine.refusal(KEY, Priority.NORMAL, soon)
    assert isinstance(unread, DeadlineUnreachable)
    assert unread.retry_after_s is not None
    assert engine.refusal(KEY, Priority.NORMAL, engine.clock() + 10) is None
    answer = await engine.ask(request("soon", now=engine.clock(), timeout_s=0.1))
    assert isinstance(answer, DeadlineUnreachable)
    assert engine.waiting_callers == 0
    assert engine.loads()[KEY].refused_rows == 2


class Stuck:
    """Never answers by itself. `obeys`: ends when it is stopped; else it goes on until `free` is set."""

    def __init__(self, *, obeys: bool) -> None:
        self.free = threading.Event()
        self.obeys = obeys
        self.stopped = threading.Event()
        self.calls = 0

    def __call__(self, inputs: Tensors) -> Tensors:
        self.calls += 1
        if self.free.is_set():
            return {"y": inputs["x"] + 1}
        assert (self.stopped if self.obeys else self.free).wait(30)
        if self.obeys:
            self.free.set()
            raise RuntimeError("terminated")
        return {"y": inputs["x"] + 1}

    def session(self) -> FunctionSession:
        return FunctionSession(SIGNATURE, self, self.stopped.set)


SHORT = WatchPolicy(floor_s=0.05, unpredicted_s=0.05, grace_s=0.05, late_s=10.0)


async def test_a_hung_run_is_stopped_and_the_next_one_makes_the_model_ready_again():
    engine, stuck = Engine(watch=SHORT), Stuck(obeys=True)
    engine.open(service(stuck.session(), 1))
    answer = await engine.ask(request("hangs", now=engine.clock()))
    assert isinstance(answer, RunHung)
    assert engine.hung_s(KEY) == 0.05
    assert isinstance(await engine.ask(request("after", now=engine.clock())), Prediction)
    assert engine.hung_s(KEY) is None
    assert engine.scheduler(KEY).runners == 1
    assert engine.close(KEY)


async def test_a_thread_that_cannot_be_stopped_is_replaced_twice_then_the_process_is_given_up():
    given_up: list[str] = []
    engine, stuck = Engine(watch=SHORT, give_up=given_up.append), Stuck(obeys=False)
    engine.open(service(stuck.session(), 1))
    answers = [await engine.ask(request(f"r{n}", now=engine.clock())) for n in range(3)]
    assert [type(answer) for answer in answers] == [RunHung] * 3
    assert len(given_up) == 1
    assert "cannot be stopped" in given_up[0]
    assert engine.scheduler(KEY).runners == 0
    stuck.free.set()
    assert engine.close(KEY)
