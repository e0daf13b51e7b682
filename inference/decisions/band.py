"""Who waits in one band: requests of one priority, the earliest deadline first, apart by group. Pure: it only sorts.

The queue of a group is a list sorted by (due, turn). Most requests are added near its end and taken from its front, a
batch at a time, so a list costs less than a heap. The first of every queue stands in a sorted list of its own, so that
the band's first request is found at once, however many groups wait.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable

import msgspec

from inference.request import Request


class Entry(msgspec.Struct, eq=False):
    """An accepted request: rows before `next_row` have been dispatched, `running_rows` of them are not back yet.

    (`due_s`, `turn`) is its place in the band; the rest of a request that was cut gets a new one. It waits since
    `since_s`: since it was accepted or, if it was cut, since its last rows were dispatched.
    """

    request: Request
    due_s: float
    turn: int
    since_s: float
    next_row: int = 0
    running_rows: int = 0

    @property
    def waiting_rows(self) -> int:
        """Rows that have not been dispatched."""
        return self.request.rows - self.next_row


Place = tuple[float, int, Entry]  # turns differ, so entries are never compared


class Band:
    """The requests of one priority that wait, in the order in which they run."""

    __slots__ = ("_heads", "_queues")

    def __init__(self) -> None:
        self._queues: dict[Hashable, list[Place]] = {}
        self._heads: list[Place] = []  # the first place of each queue

    def first(self) -> Entry | None:
        """The entry that runs next, or None if nobody waits."""
        return self._heads[0][2] if self._heads else None

    def add(self, entry: Entry) -> None:
        """Take `entry` in, at its place."""
        place = (entry.due_s, entry.turn, entry)
        queue = self._queues.get(entry.request.group)
        if queue is None:
            self._queues[entry.request.group] = [place]
            insort(self._heads, place)
            return
        insort(queue, place)
        if queue[0] is place:
            self._drop_head(queue[1])
            insort(self._heads, place)

    def add_rest(self, entry: Entry, turn: int) -> None:
        """Take in what is left of a cut request, behind all of its group that wait now."""
        queue = self._queues.get(entry.request.group)
        due_s = entry.request.deadline_s
        entry.due_s = max(due_s, queue[-1][0]) if queue else due_s
        entry.turn = turn
        self.add(entry)

    def remove(self, entry: Entry) -> None:
        """Take `entry` out, wherever it stands."""
        queue = self._queues[entry.request.group]
        index = bisect_left(queue, (entry.due_s, entry.turn, entry))
        place = queue.pop(index)
        assert place[2] is entry, "a request is not where its place says"
        if index == 0:
            self._head_taken(place, queue)

    def take(self, group: Hashable, room: int, knee: int) -> tuple[list[tuple[Entry, int]], int]:
        """Take out, in order, the entries of `group` that fit into `room` rows, each with the rows that it gives.

        Only a request that would not fit into an empty batch (`knee`) is cut; it comes last, and whoever calls adds
        its rest again. The second value is the room left: 0 if somebody did not fit, since nobody overtakes them.
        """
        queue = self._queues.get(group)
        taken: list[tuple[Entry, int]] = []
        if queue is None:
            return taken, room
        for _, _, entry in queue:
            rows = entry.request.rows - entry.next_row
            if rows > room:
                if rows > knee and room:
                    taken.append((entry, room))
                room = 0
                break
            taken.append((entry, rows))
            room -= rows
        if taken:
            head = queue[0]
            del queue[: len(taken)]
            self._head_taken(head, queue)
        return taken, room

    def _head_taken(self, head: Place, queue: list[Place]) -> None:
        self._drop_head(head)
        if queue:
            insort(self._heads, queue[0])
        else:
            del self._queues[head[2].request.group]

    def _drop_head(self, head: Place) -> None:
        del self._heads[bisect_left(self._heads, head)]
