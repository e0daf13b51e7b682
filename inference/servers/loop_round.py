"""Since when the bytes that are read now may have waited for the loop.

A loop that is busy reads its sockets once a round: what came during the last round waits until its end, unseen. A
deadline that counted from the reading would promise this time twice. So while rounds are long, what is read counts as
come when the round before began to read: at most one round too early, never too late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LONG_ROUND_S = 0.002  # shorter rounds hide less than anybody can feel
KEPT_SHARE = 0.9
FORGET_S = 0.02
REST_S = 0.001  # a loop that did nothing for this long waited for its sockets, and read them at once


class LoopRound:
    """The rounds of one loop; all methods belong to its thread. `clock` is the engine's.

    `observe` is told how long rounds take whenever that changes; 0: too short to matter. `meanwhile` is called between
    two sockets of a round, for what should not wait for its end.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[float], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._meanwhile = meanwhile
        self._round_s = 0.0
        self._reading = False
        self._began_s = self._ended_s = -1.0
        self._arrived_s: float | None = None  # None: as they are read

    def heard(self) -> None:
        """Bytes are being read. Cheap after the first time in a round."""
        if self._reading:
            if self._meanwhile is not None:
                self._meanwhile()
            return
        self._reading = True
        now = self._clock()
        began_s = self._began_s
        rested = now - self._ended_s >= REST_S
        self._arrived_s = None if rested or now - began_s <= LONG_ROUND_S else began_s
        if self._observe is not None:
            self._note_round((self._ended_s if rested else now) - began_s, now - self._ended_s)
        self._began_s = now
        asyncio.get_running_loop().call_soon(self._end)

    def arrived_s(self) -> float:
        """When what is read in this round may have come, in seconds of the clock."""
        return self._clock() if self._arrived_s is None else self._arrived_s

    def _note_round(self, seconds: float, rest_s: float) -> None:
        """Tell how long rounds take: a longer one at once, shorter ones little by little, none after a rest."""
        round_s = 0.0 if rest_s > FORGET_S else max(seconds, KEPT_SHARE * self._round_s)
        if round_s < LONG_ROUND_S:
            round_s = 0.0
        if round_s != self._round_s:
            self._round_s = round_s
            assert self._observe is not None
            self._observe(round_s)

    def _end(self) -> None:
        """Called when all sockets of the round have been read, before the next round."""
        self._reading = False
        self._arrived_s = None
        self._ended_s = self._clock()
