"""Calls after the sockets of a round, in order, each once, and sooner when the round is long."""

from __future__ import annotations

import asyncio

from inference.after_reading import READING_MAX_S, AfterReading


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_calls_are_made_by_the_loop_in_their_order() -> None:
    after, said, loop = AfterReading(Clock()), list[str](), asyncio.get_running_loop()
    after.add(loop, said.append, "first")
    after.add(loop, said.append, "second")
    after.overdue()
    assert said == []
    await asyncio.sleep(0)
    assert said == ["first", "second"]


async def test_what_has_waited_for_long_is_called_at_once_and_not_again() -> None:
    clock = Clock()
    after, said, loop = AfterReading(clock), list[str](), asyncio.get_running_loop()
    after.add(loop, said.append, "old")
    clock.now = 1.5 * READING_MAX_S
    after.add(loop, said.append, "young")
    after.overdue()
    assert said == ["old"]
    await asyncio.sleep(0)
    assert said == ["old", "young"]


async def test_a_call_may_add_another() -> None:
    clock = Clock()
    after, said, loop = AfterReading(clock), list[str](), asyncio.get_running_loop()

    def first() -> None:
        said.append("first")
        after.add(loop, said.append, "next")

    after.add(loop, first)
    clock.now = 2 * READING_MAX_S
    after.overdue()
    assert said == ["first"]
    await asyncio.sleep(0)
    assert said == ["first", "next"]
