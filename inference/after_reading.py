"""What is done once all sockets have been read that can be read now: batches are fuller then, answers go together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

READING_MAX_S = 0.001  # of other callers' bytes, that a call waits for


@dataclass(slots=True, frozen=True)
class _Due:
    since_s: float
    call: Callable[[], None]
    handle: asyncio.Handle


class AfterReading:
    """Calls in the order in which they were added. Belongs to one event loop; `clock` in seconds.

    A loop calls what it was given after a round of its sockets. Under load rounds are long, so who reads in between
    asks for what is `overdue`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: deque[_Due] = deque()

    def add(self, loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
        """Call it after this round, once."""
        self._due.append(_Due(self._clock(), partial(call, *arguments), loop.call_soon(self._next)))

    def overdue(self) -> None:
        """Make the calls that have waited for READING_MAX_S."""
        due = self._due
        while due and self._clock() - due[0].since_s > READING_MAX_S:
            due[0].handle.cancel()
            self._next()

    def _next(self) -> None:
        self._due.popleft().call()
