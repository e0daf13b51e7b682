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
RESTLESS_S = 0.03  # a loop that has not rested for so long has more than it can do
KEPT_SHARE = 0.9  # of the length of rounds, while shorter ones follow
UNSEEN_MAX = 8  # sockets that are read in a calm before a round is looked at all the same


class LoopRound:
    """The rounds of one loop; all methods belong to its thread. `clock` is the engine's.

    `observe` is told how long rounds take (0: too short to matter) and whether the loop no longer rests, whenever that
    changes. A loop rests when it looks at its sockets and finds nothing. `meanwhile`, if set, is called between two
    sockets of a round, for what should not wait for its end. While `calm` says so only some rounds are looked at: to
    notice their ends takes two callbacks each, which a lone caller would wait for. Some are, since a loop that answers
    or refuses at once is calm too, however many ask.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[float, bool], None] | None = None,
        calm: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._calm = calm
        self.meanwhile: Callable[[], None] | None = None
        self._reading = False
        self._unseen = self._unseen_before = 0
        self._rests = True
        self._began_s = self._rested_s = -1.0
        self._arrived_s: float | None = None  # None: as they are read
        self._round_s = 0.0
        self._crowded = False

    def heard(self) -> None:
        """Bytes are being read. Cheap after the first time in a round."""
        if self._reading:
            if self.meanwhile is not None:
                self.meanwhile()
            return
        if self._unseen < UNSEEN_MAX and not self._crowded and not self._round_s and self._calm():
            self._unseen += 1
            return
        self._unseen = 0
        self._reading = True
        now = self._clock()
        round_s = 0.0 if self._rests else now - self._began_s
        self._arrived_s = self._began_s if round_s > LONG_ROUND_S else None
        if self._rests:
            self._rested_s = now
        if self._observe is not None:
            self._note(round_s, now - self._rested_s)
        self._began_s = now
        self._rests = False
        asyncio.get_running_loop().call_soon(self._end)

    def arrived_s(self) -> float:
        """When what is read in this round may have come, in seconds of the clock."""
        return self._clock() if self._arrived_s is None else self._arrived_s

    def _note(self, seconds: float, restless_s: float) -> None:
        """Tell how long rounds take: a longer one at once, shorter ones little by little, none after a rest."""
        round_s = max(seconds, KEPT_SHARE * self._round_s) if seconds else 0.0
        if round_s < LONG_ROUND_S:
            round_s = 0.0
        crowded = restless_s > RESTLESS_S
        if round_s != self._round_s or crowded is not self._crowded:
            self._round_s, self._crowded = round_s, crowded
            assert self._observe is not None
            self._observe(round_s, crowded)

    def _end(self) -> None:
        """Called when all sockets of the round have been read."""
        self._reading = False
        self._arrived_s = None
        self._look_again()

    def _look_again(self) -> None:
        self._unseen_before = self._unseen
        asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Called when the sockets have been looked at once more."""
        if self._reading:
            return
        if self._unseen == self._unseen_before:
            self._rests = True
        else:
            self._look_again()
