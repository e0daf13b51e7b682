"""How much time to keep between a promise and its deadline, learned from how the answers come out. Pure.

The margin is what the server itself adds to a request (measured: reading it, waking the loop, writing the answer) and a
number of batches. An answer that came too late raises that number by a tenth, one that came in the last half of the
margin by a hundredth, and every other one lowers it a little. So it settles where one answer in 5,000 is late, or one
in 500 nearly so, whichever comes first. A run that stalls makes many late at once, and raises it accordingly.

The margin of a request is at most PART_MAX of the time that is left to it: less work lies before it, and so less can go
wrong. Only answers whose callers allowed enough for the whole margin teach something; who allows no more than the work
takes is late by his own choice, and may not make the server careful at the others' cost. That also bounds the margin.
"""

from __future__ import annotations

BATCHES_FIRST = 3.0
BATCHES_MIN = 0.5
BATCHES_MAX = 64.0
RAISE_LATE = 1.1
RAISE_NEARLY = 1.01
LOWER = 1.0 - 2e-5
PART_MAX = 0.25


class PromiseMargin:
    """`seconds` between the predicted end of a run and the deadline that is promised."""

    __slots__ = ("batch_s", "batches", "overhead_s", "seconds")

    def __init__(self) -> None:
        self.overhead_s = 0.0
        self.batches = BATCHES_FIRST
        self.batch_s = 0.0
        self.seconds = 0.0

    def set_batch(self, batch_s: float) -> None:
        """What one batch takes at most, as a rule."""
        self.batch_s = batch_s
        self.seconds = self.overhead_s + self.batches * batch_s

    def observe_overhead(self, seconds: float) -> None:
        """The server itself adds so much to an answer, as things stand now."""
        if seconds >= 0.0:
            self.overhead_s = seconds
            self.seconds = seconds + self.batches * self.batch_s

    def answered(self, left_s: float, allowed_s: float) -> None:
        """An accepted request was answered with `left_s` to its deadline (below 0: too late) of `allowed_s`."""
        seconds = self.seconds
        if PART_MAX * allowed_s < seconds:
            return
        if left_s >= 0.5 * seconds:
            batches = self.batches * LOWER
        else:
            batches = self.batches * (RAISE_LATE if left_s < 0.0 else RAISE_NEARLY)
        self.batches = batches = min(max(batches, BATCHES_MIN), BATCHES_MAX)
        self.seconds = self.overhead_s + batches * self.batch_s
