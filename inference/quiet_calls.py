"""Calls of the server's own, on runners that would idle: measuring batch sizes must take nobody's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inference.lane import Lane


class QuietCalls:
    """Runs functions on idle runners while nobody waits. Lives on one event loop.

    `give_back(lane, number)` is called when a runner has come back from one.
    """

    def __init__(self, give_back: Callable[[Lane, int], None]) -> None:
        self._give_back = give_back

    async def ask(self, lane: Lane, function: Callable[[], object]) -> object:
        """What `function` returns. Raises what it raises."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        lane.quiet_calls.append((function, future))
        self.start(lane)
        return await future

    def start(self, lane: Lane) -> None:
        """Start those for which a runner idles."""
        while lane.quiet_calls:
            number = lane.scheduler.borrow_idle()
            if number is None:
                return
            function, future = lane.quiet_calls.popleft()
            self._call(lane, number, function, future)

    def _call(self, lane: Lane, number: int, function: Callable[[], object], future: asyncio.Future[object]) -> None:
        loop = asyncio.get_running_loop()

        def done(result: object) -> None:  # in the runner's thread
            loop.call_soon_threadsafe(self._done, lane, number, future, result)

        lane.runners[number].call(function, done)

    def _done(self, lane: Lane, number: int, future: asyncio.Future[object], result: object) -> None:
        self._give_back(lane, number)
        if future.done():
            pass  # whoever asked has stopped waiting
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
        self.start(lane)
