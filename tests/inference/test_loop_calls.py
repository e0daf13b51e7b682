"""Calls from other threads reach a loop that runs, and a loop that has ended does no harm."""

from __future__ import annotations

import asyncio
import threading

from inference.loop_calls import call_on


async def test_a_call_comes_from_the_loops_own_thread() -> None:
    loop = asyncio.get_running_loop()
    called: asyncio.Future[tuple[str, int]] = loop.create_future()
    thread = threading.Thread(
        target=call_on,
        args=(loop, lambda name: called.set_result((name, threading.get_ident())), "given"),
    )
    thread.start()
    assert await asyncio.wait_for(called, 10) == ("given", threading.get_ident())
    thread.join()


def test_a_loop_that_has_ended_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    called: list[str] = []
    call_on(loop, called.append, "never")
    assert called == []
