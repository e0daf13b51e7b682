"""The server's own work waits for runners that idle, and gives them back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from inference.lane import Lane
from inference.quiet_calls import QuietCalls
from inference.runtime.function_session import FunctionSession
from tests.inference.requests import request
from tests.inference.test_engine import SIGNATURE, service


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane(service(FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["x"]}), 4))
    lane.scheduler.runner_idle(lane.new_runner(), 0.0)
    yield lane
    for runner in lane.runners.values():
        runner.stop(5)


def calls_of(given_back: list[int]) -> QuietCalls:
    def give_back(lane: Lane, number: int) -> None:
        given_back.append(number)
        lane.scheduler.runner_idle(number, 1.0)

    return QuietCalls(give_back)


async def test_a_call_runs_in_the_thread_of_an_idle_runner_which_is_given_back(lane: Lane) -> None:
    given_back: list[int] = []
    assert await calls_of(given_back).ask(lane, lambda: threading.current_thread().name) == "adder/1#0"
    assert given_back == [0]


async def test_calls_take_turns_and_what_one_raises_is_its_caller_s(lane: Lane) -> None:
    calls = calls_of([])
    asked = [asyncio.ensure_future(calls.ask(lane, call)) for call in (lambda: 1, lambda: 1 // 0, lambda: 3)]
    assert await asked[0] == 1
    with pytest.raises(ZeroDivisionError):
        await asked[1]
    assert await asked[2] == 3


async def test_while_the_runner_works_a_call_waits(lane: Lane) -> None:
    given_back: list[int] = []
    calls = calls_of(given_back)
    lane.scheduler.submit(request(), 0.0)  # takes the runner
    asked = asyncio.ensure_future(calls.ask(lane, lambda: "done"))
    await asyncio.sleep(0)
    assert list(lane.quiet_calls)
    lane.scheduler.runner_idle(0, 0.1)
    calls.start(lane)
    assert await asked == "done"


async def test_who_stopped_waiting_gets_nothing_and_the_runner_is_given_back(lane: Lane) -> None:
    given_back: list[int] = []
    calls, gate = calls_of(given_back), threading.Event()
    asked = asyncio.ensure_future(calls.ask(lane, gate.wait))
    await asyncio.sleep(0)
    asked.cancel()
    gate.set()
    assert await calls.ask(lane, lambda: "next") == "next"
    assert given_back == [0, 0]
