"""What the server does with the batches of rows that a host sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from inference.decisions.background_band import REQUESTS_MAX
from inference.errors import InvalidTensor, ModelNotFound, QueueFull
from inference.protocols.job_frames import RunRows, rows_to_run
from inference.request import Priority
from inference.tensor import Tensors
from tests.inference.host_pair import Pair, pair
from tests.inference.test_engine import entered


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "models") as made:
        yield made


ONE = {"x": np.zeros((1, 1), np.float32)}


def ask(both: Pair, inputs: Tensors, name: str = "adder", version: int = 3) -> asyncio.Future:
    """Past the host's own bounds."""
    _, future = both.host.ask(lambda number: rows_to_run(number, name, version, inputs))
    return asyncio.wrap_future(future)


async def test_a_batch_of_rows_is_one_background_request_without_a_deadline(both: Pair) -> None:
    both.adder.gate.clear()
    asked = ask(both, {"x": np.zeros((50, 1), np.float32)})
    await entered(both.adder)
    (made,) = both.engine.background._waiters
    assert (made.rows, made.priority, made.deadline_s) == (50, Priority.BACKGROUND, float("inf"))
    both.adder.gate.set()
    _, outputs = await asyncio.wait_for(asked, 10)
    assert outputs["y"].shape == (50, 1)


async def test_tensors_that_do_not_fit_are_refused_with_every_misfit(both: Pair) -> None:
    with pytest.raises(InvalidTensor, match="FP64"):
        await ask(both, {"x": np.zeros((2, 1))})
    with pytest.raises(InvalidTensor, match="unknown input"):
        await ask(both, {**ONE, "z": np.zeros(1)})


async def test_a_model_that_is_not_there_is_refused(both: Pair) -> None:
    with pytest.raises(ModelNotFound):
        await ask(both, ONE, "nobody")


async def test_a_host_that_sends_more_than_it_may_is_refused_and_the_rest_is_answered(both: Pair) -> None:
    both.adder.gate.clear()
    asked = [ask(both, ONE) for _ in range(REQUESTS_MAX + 1)]
    with pytest.raises(QueueFull, match="background requests"):
        await asyncio.wait_for(asked[-1], 10)
    both.adder.gate.set()
    assert len(await asyncio.gather(*asked[:-1])) == REQUESTS_MAX


async def test_a_host_that_goes_leaves_nothing_behind(both: Pair) -> None:
    both.adder.gate.clear()
    asked = [ask(both, {"x": np.zeros((100, 1), np.float32)}) for _ in range(2)]
    await entered(both.adder)
    both.host.close()
    await asyncio.gather(*asked, return_exceptions=True)
    while both.engine.background.waiting:
        await asyncio.sleep(0.001)
    both.adder.gate.set()
    assert both.engine.scheduler(("adder", 3)).background.rows == 0


async def test_outputs_that_no_frame_takes_are_told_as_a_failed_run(both: Pair) -> None:
    both.feed.begin(RunRows(99, "adder", 3, ()), ONE)  # an answer that nobody asked for is dropped by the host
    answered = ask(both, ONE)
    await asyncio.wait_for(answered, 10)
    strange = {"y": np.zeros((1, 1), np.complex64)}
    both.engine._lanes[("adder", 3)].session._function = lambda _: strange
    _, future = both.host.ask(lambda number: rows_to_run(number, "adder", 3, ONE))
    with pytest.raises(Exception, match="cannot be sent"):
        await asyncio.wait_for(asyncio.wrap_future(future), 10)
