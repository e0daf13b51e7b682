"""Short batches of bounded work run in the loop's thread, and everybody is answered as by a runner's."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable

import msgspec
import numpy as np
import pytest

from inference.after_reading import READING_MAX_S
from inference.decisions.run_place import DOUBT_S, STALL_S
from inference.engine import Engine
from inference.errors import InputsRejected, Stopping
from inference.request import Answer, Prediction
from inference.runtime.function_session import FunctionSession
from inference.tensor import Tensors
from tests.inference.requests import KEY, request
from tests.inference.test_engine import SIGNATURE, service

SHORT = {1: 0.0001, 4: 0.0002}  # seconds of a session call by rows, as measured before


class Clock:
    """The time, which a session call may move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Adder:
    """y = x + 1. Notes rows and thread of each call; fails on 13."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: list[int] = []

    def __call__(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        self.calls.append(len(x))
        self.threads.append(threading.get_ident())
        if (x == 13).any():
            raise ValueError("a row of 13")
        return {"y": x + 1}

    @property
    def here(self) -> bool:
        """Whether the last call was in this thread."""
        return self.threads[-1] == threading.get_ident()


Make = Callable[..., Engine]


@pytest.fixture
def adder() -> Adder:
    return Adder()


@pytest.fixture
async def opened(adder: Adder) -> AsyncIterator[Make]:
    engines: list[Engine] = []

    def make(
        *, cores: int = 1, bounded: bool = True, knee: int = 4, timings_s: dict[int, float] | None = None
    ) -> Engine:
        engine = Engine(Clock(), cores=cores)
        engines.append(engine)
        made = service(FunctionSession(SIGNATURE, adder), knee)
        engine.open(dataclasses.replace(made, bounded=bounded, timings_s=SHORT if timings_s is None else timings_s))
        return engine

    yield make
    for engine in engines:
        if engine.loads():
            assert engine.close(KEY)


def y(answer: Answer) -> list[float]:
    assert isinstance(answer, Prediction), answer
    return answer.outputs["y"].ravel().tolist()


async def test_a_short_batch_runs_in_the_loop_s_thread(opened: Make, adder: Adder) -> None:
    engine = opened()
    for _ in range(3):
        prediction = await engine.predict(request(rows=2))
        assert y(prediction) == [1.0, 2.0]
        assert adder.here
        assert prediction.timings.batch_rows == 2
    assert engine.waiting_callers == 0


@pytest.mark.parametrize(
    "unlike",
    [{"bounded": False}, {"timings_s": {}}, {"timings_s": {1: 0.006, 4: 0.008}}, {"knee": 2}],
    ids=["may hang", "nothing known", "long", "full"],
)
async def test_any_other_batch_has_a_thread(opened: Make, adder: Adder, unlike: dict[str, object]) -> None:
    assert y(await opened(**unlike).predict(request(rows=2))) == [1.0, 2.0]
    assert not adder.here


async def test_with_more_cores_two_callers_have_a_thread_and_one_has_not(opened: Make, adder: Adder) -> None:
    engine = opened(cores=2)
    await engine.predict(request("alone"))
    assert adder.here
    both = [engine.ask(request(name)) for name in ("first", "second")]
    assert [y(await one) for one in both] == [[1.0], [1.0]]
    assert not adder.here  # the second one's


async def test_who_comes_while_others_are_read_shares_one_batch(opened: Make, adder: Adder) -> None:
    """Three callers ask again whenever they are answered: after the first of all, one batch a round."""
    engine = opened(knee=8)

    async def caller() -> None:
        for _ in range(4):
            await engine.predict(request())

    await asyncio.gather(*(caller() for _ in range(3)))
    assert sum(adder.calls) == 12
    assert adder.calls[0] == 1
    assert max(adder.calls) == 3
    assert len(adder.calls) <= 6


async def test_a_long_round_is_interrupted_for_batches_that_wait(opened: Make, adder: Adder) -> None:
    """Whoever reads calls `collect` between two sockets."""
    engine = opened()
    clock = engine.clock
    assert isinstance(clock, Clock)
    asked = [engine.ask(request(str(number))) for number in range(3)]
    engine.collect()
    assert adder.calls == []
    clock.now += 2 * READING_MAX_S
    engine.collect()
    assert adder.calls == [1]
    clock.now += 2 * READING_MAX_S
    engine.collect()
    assert adder.calls == [1, 2]
    assert adder.here
    assert [y(one.result()) for one in asked] == [[1.0]] * 3


async def test_while_rounds_are_long_threads_run_batches(opened: Make, adder: Adder) -> None:
    engine = opened()
    engine.observe_round(0.01)
    await engine.predict(request())
    assert not adder.here
    engine.observe_round(0.0)
    await engine.predict(request())
    assert adder.here


async def test_a_call_that_stalls_sends_the_next_ones_to_a_thread(
    opened: Make, adder: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    clock = engine.clock
    assert isinstance(clock, Clock)
    times = iter([0.0, 0.0])
    with monkeypatch.context() as patch:
        patch.setattr("inference.runtime.runner.time.perf_counter", lambda: next(times, 2 * STALL_S))
        await engine.predict(request())
    assert adder.here
    await engine.predict(request())
    assert not adder.here
    clock.now += DOUBT_S
    await engine.predict(request())
    assert adder.here


async def test_the_guilty_one_fails_alone(opened: Make, adder: Adder) -> None:
    engine = opened(knee=8)
    guilty = msgspec.structs.replace(request("guilty"), inputs={"x": np.full((1, 1), 13, np.float32)})
    asked = [engine.ask(one) for one in (request("first"), request("good"), guilty, request("late"))]
    answers = [await one for one in asked]
    assert [y(answers[place]) for place in (0, 1, 3)] == [[1.0]] * 3
    assert isinstance(answers[2], InputsRejected)
    assert adder.here


async def test_a_request_larger_than_a_batch_is_put_together(opened: Make, adder: Adder) -> None:
    assert y(await opened().predict(request(rows=6))) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert adder.calls == [4, 2]


async def test_what_nobody_waits_for_any_more_does_not_run(opened: Make, adder: Adder) -> None:
    engine, gone = opened(), request("gone")
    answers: list[Answer] = []
    engine.submit(gone, answers.append)
    engine.cancel(gone)
    assert y(await engine.predict(request())) == [1.0]
    assert adder.calls == [1]
    assert answers == []
    assert engine.scheduler(KEY).idle_runners == 1 or await settled(engine)


async def settled(engine: Engine) -> bool:
    """Whether the runner is idle after the sockets have been read once more."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return engine.scheduler(KEY).idle_runners == 1


async def test_a_version_that_is_closed_before_its_batch_runs_tells_its_callers(opened: Make, adder: Adder) -> None:
    engine = opened()
    asked = engine.ask(request())
    assert engine.close(KEY)
    assert isinstance(await asked, Stopping)
    await asyncio.sleep(0)
    assert adder.calls == []


async def test_quiet_calls_have_their_turn_between_batches(opened: Make, adder: Adder) -> None:
    engine = opened()
    asked = engine.ask(request())
    quiet = asyncio.ensure_future(engine.when_quiet(KEY, threading.get_ident))
    assert y(await asked) == [1.0]
    assert await quiet != threading.get_ident()
    await engine.predict(request())
    assert adder.here


async def test_a_drain_waits_for_what_runs_here(opened: Make) -> None:
    engine = opened()
    asked = engine.ask(request())
    assert await engine.drain(5)
    assert y(await asked) == [1.0]
