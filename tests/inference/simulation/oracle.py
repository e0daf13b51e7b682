"""What a scheduler has to do, as plainly as it can be written: one list of who waits, sorted anew for every batch.

It shares no code with the scheduler. `Life` asks it for the batch that has to come, and holds the two against each
other after every event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.decisions.scheduler import QueuePolicy
from inference.request import Request

EVERY = 4  # batches of which one may go to who has waited longest


@dataclass(eq=False)
class Waiting:
    """A request of which rows wait."""

    request: Request
    due_s: float
    turn: int  # place among equal deadlines, and in age
    since_s: float
    older: int  # requests that had waited longer when its wait began
    next_row: int = 0
    overdue_batches: int = 0  # that were started without it while it was overdue

    @property
    def rows(self) -> int:
        """Rows of it that wait."""
        return self.request.rows - self.next_row


class Oracle:
    """The queue of one version, written for being right, not for being fast."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.waiting: list[Waiting] = []
        self._turns = 0
        self._batches_in_order = 0

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(one.rows for one in self.waiting)

    @property
    def bytes(self) -> int:
        """Bytes of the requests of which rows wait."""
        return sum(one.request.byte_count for one in self.waiting)

    def accept(self, request: Request, now: float) -> None:
        """All of this request waits from now on."""
        self._turns += 1
        self.waiting.append(Waiting(request, request.deadline_s, self._turns, now, len(self.waiting)))

    def leave(self, request: Request) -> None:
        """Nothing of this request waits any more."""
        self.waiting = [one for one in self.waiting if one.request is not request]

    def batch(self, now: float) -> list[tuple[Request, int, int]]:
        """The batch that has to be started now, as (request, from row, to row); what is in it waits no more."""
        first = self._first(now)
        knee = self.policy.batch_rows_max
        room = math.inf if knee is None else knee
        parts: list[tuple[Request, int, int]] = []
        for one in [first] if knee is None else self._company(first):
            rows = one.rows
            if rows > room:
                if room == 0 or (knee is not None and rows <= knee):
                    break
                rows = int(room)
            parts.append((one.request, one.next_row, one.next_row + rows))
            one.next_row += rows
            room -= rows
            self._taken(one, now)
        return parts

    def _first(self, now: float) -> Waiting:
        oldest = min(self.waiting, key=lambda one: one.turn)
        if self._batches_in_order >= EVERY - 1 and now - oldest.since_s >= self.policy.patience_s:
            self._batches_in_order = 0
            return oldest
        self._batches_in_order += 1
        return min(self.waiting, key=_order)

    def _company(self, first: Waiting) -> list[Waiting]:
        others = [one for one in self.waiting if one is not first and one.request.group == first.request.group]
        return [first, *sorted(others, key=_order)]

    def _taken(self, one: Waiting, now: float) -> None:
        self.waiting.remove(one)
        if not one.rows:
            return
        self._turns += 1
        place = (one.request.priority, one.request.group)
        dues = [other.due_s for other in self.waiting if (other.request.priority, other.request.group) == place]
        due_s = max([one.request.deadline_s, *dues])
        self.waiting.append(Waiting(one.request, due_s, self._turns, now, len(self.waiting), one.next_row))

    def note_start(self, now: float) -> None:
        """A batch has been started at `now`: who is overdue and still waits has been passed over once more.

        That can happen EVERY * (older + 1) - 1 times at most, which is the bound that the scheduler states.
        """
        for one in self.waiting:
            if now - one.since_s >= self.policy.patience_s:
                one.overdue_batches += 1
                assert one.overdue_batches < EVERY * (one.older + 1), (
                    f"{one.request.id} starves: {one.overdue_batches} batches since it was overdue, {one.older} older"
                )


def _order(one: Waiting) -> tuple[int, float, int]:
    return one.request.priority, one.due_s, one.turn
