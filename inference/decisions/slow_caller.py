"""When a caller has been too slow: how long each stage of a connection may last, and what follows.

A connection is looked at now and then, not at every byte. Kept of it is what it was first seen doing, and since when,
so a limit is noticed up to one interval between two looks late. Of a longer interval no more than `STILL_S` counts: the
server stood still, and what the caller sent meanwhile is yet to be read.
"""

from __future__ import annotations

import enum

import msgspec

STILL_S = 1.0  # looks come every 0.5 s at most
PROGRESS_BYTES_MIN = 1024  # by which a body, or the reading of an answer, has to move within `stall_s`


class Stage(enum.Enum):
    """What a connection waits for."""

    SILENT = "silent"  # its first byte
    HEAD = "head"  # the rest of a request's headers
    BODY = "body"  # the rest of its body
    SERVED = "served"  # the server's own work, which has limits of its own
    ANSWER = "answer"  # the caller, who has yet to read what was sent
    IDLE = "idle"  # the next request
    LEAVING = "leaving"  # the caller's end of a connection that the server has ended


class Verdict(enum.Enum):
    """What is to be done."""

    WAIT = "wait"
    CLOSE = "close"  # without a word: nothing was begun
    REFUSE = "refuse"  # tell the caller, then close
    DROP = "drop"  # at once, with whatever is unsent


class Patience(msgspec.Struct, frozen=True):
    """How long a caller may take, s.

    `head_s` for a request's headers, `body_s` for its body and as long for reading the answer, both with progress in
    every `stall_s`; `idle_s` until the next request; `leave_s` to close after the server has.
    """

    head_s: float
    body_s: float
    stall_s: float
    idle_s: float
    leave_s: float

    @property
    def shortest_s(self) -> float:
        """The shortest of them."""
        return min(self.head_s, self.body_s, self.stall_s, self.idle_s, self.leave_s)


_OVERDUE = {
    Stage.SILENT: Verdict.CLOSE,
    Stage.HEAD: Verdict.REFUSE,
    Stage.BODY: Verdict.REFUSE,
    Stage.ANSWER: Verdict.DROP,
    Stage.IDLE: Verdict.CLOSE,
    Stage.LEAVING: Verdict.DROP,
}
_MOVING = (Stage.BODY, Stage.ANSWER)


class CallerWatch:
    """What one connection was seen doing."""

    __slots__ = ("_looked_s", "_message", "_moved_bytes", "_moved_s", "_since_s", "_stage")

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._message: object = None
        self._looked_s = 0.0
        self._since_s = 0.0
        self._moved_s = 0.0
        self._moved_bytes = 0

    def look(self, stage: Stage, message: object, moved_bytes: int, patience: Patience, now: float) -> Verdict:
        """What is due now.

        `message` is the same object as long as the same request is meant; `moved_bytes` grows with a body or with the
        reading of an answer.
        """
        still_s = now - self._looked_s - STILL_S
        self._looked_s = now
        if still_s > 0:
            self._since_s += still_s
            self._moved_s += still_s
        if stage is not self._stage or message is not self._message:
            self._stage, self._message = stage, message
            self._since_s = self._moved_s = now
            self._moved_bytes = moved_bytes
            return Verdict.WAIT
        if stage is Stage.SERVED:
            return Verdict.WAIT
        if stage in _MOVING:
            if moved_bytes >= self._moved_bytes + PROGRESS_BYTES_MIN:
                self._moved_s, self._moved_bytes = now, moved_bytes
            elif now - self._moved_s >= patience.stall_s:
                return _OVERDUE[stage]
        return _OVERDUE[stage] if now - self._since_s >= _limit_s(stage, patience) else Verdict.WAIT


def _limit_s(stage: Stage, patience: Patience) -> float:
    if stage in _MOVING:
        return patience.body_s
    if stage is Stage.IDLE:
        return patience.idle_s
    return patience.leave_s if stage is Stage.LEAVING else patience.head_s
