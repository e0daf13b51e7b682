"""Which server processes are started, started again, stopped and killed, and when. Pure: time is an argument.

A process that ends is replaced after a delay that doubles with each end and begins anew once a process has lived for
`steady_s`. One that stays silent for `silence_max_s` is killed, and then replaced like any other. A look at them that
comes `late_s` late says that the machine stood still, so they get their time anew. A stop asks all processes to end and
kills those that have not when `stop_limit_s` has passed; a hurried one gives them `hurry_limit_s`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class WatchPolicy(msgspec.Struct, frozen=True):
    """The delays, in seconds."""

    delay_first_s: float = 0.1
    delay_max_s: float = 5.0
    steady_s: float = 60.0
    silence_max_s: float = 30.0
    late_s: float = 1.0
    stop_limit_s: float = 30.0
    hurry_limit_s: float = 5.0


class Start(NamedTuple):
    """Start a process in this place; `restarts` says how many have ended there."""

    place: int
    restarts: int


class Stop(NamedTuple):
    """Ask this process to answer what it has accepted and to end; at once if `hurry`."""

    place: int
    hurry: bool


class Kill(NamedTuple):
    """End this process, which does not end by itself."""

    place: int
    reason: str


Decision = Start | Stop | Kill


class _Place(msgspec.Struct):
    """One of the processes: alive since `since_s` and last heard at `heard_s`, or to be started at `due_s`."""

    alive: bool = False
    since_s: float = 0.0
    heard_s: float = 0.0
    due_s: float | None = None
    delay_s: float = 0.0
    restarts: int = 0
    killed: bool = False


class ProcessWatch:
    """Decides for all processes of a server; the shell starts, stops and kills them, and tells what becomes of them."""

    def __init__(self, processes: int, policy: WatchPolicy) -> None:
        self._policy = policy
        self._places = [_Place() for _ in range(processes)]
        self._kill_at_s: float | None = None
        self.stopping = False

    @property
    def finished(self) -> bool:
        """True once a stop has ended every process."""
        return self.stopping and not any(place.alive for place in self._places)

    def begin(self, now: float) -> list[Decision]:
        """Start them all."""
        for place in self._places:
            place.due_s = now
        return self.tick(now)

    def heard(self, place: int, now: float) -> None:
        """The process lives."""
        self._places[place].heard_s = now

    def ended(self, place: int, now: float) -> float | None:
        """The process is gone. Gives the delay after which another takes its place, None in a stop."""
        found = self._places[place]
        assert found.alive, f"process {place} cannot end twice"
        found.alive = False
        if self.stopping:
            return None
        steady = now - found.since_s >= self._policy.steady_s
        longer_s = min(2 * found.delay_s, self._policy.delay_max_s)
        found.delay_s = self._policy.delay_first_s if steady or not found.delay_s else longer_s
        found.restarts += 1
        found.due_s = now + found.delay_s
        return found.delay_s

    def stop(self, now: float, *, hurry: bool = False) -> list[Decision]:
        """Stop them all; again with `hurry` for those that take too long."""
        self.stopping = True
        limit_s = self._policy.hurry_limit_s if hurry else self._policy.stop_limit_s
        if self._kill_at_s is None or now + limit_s < self._kill_at_s:
            self._kill_at_s = now + limit_s
        for place in self._places:
            place.due_s = None
        return [Stop(number, hurry) for number, place in enumerate(self._places) if place.alive]

    def tick(self, now: float) -> list[Decision]:
        """What is due."""
        decisions: list[Decision] = []
        self._pardon(now)
        for number, place in enumerate(self._places):
            if place.due_s is not None and now >= place.due_s:
                place.alive, place.killed, place.since_s, place.heard_s, place.due_s = True, False, now, now, None
                decisions.append(Start(number, place.restarts))
            elif place.alive and not place.killed and (reason := self._kill_reason(place, now)):
                place.killed = True
                decisions.append(Kill(number, reason))
        return decisions

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, unless something happens before."""
        times = [place.due_s for place in self._places if place.due_s is not None]
        watched = [place for place in self._places if place.alive and not place.killed]
        times += [self._silent_at_s(place) if self._kill_at_s is None else self._kill_at_s for place in watched]
        return min(times, default=None)

    def _pardon(self, now: float) -> None:
        """Who looks this late has stood still, and what the processes said meanwhile is yet to be read."""
        for place in self._places:
            if place.alive and now - self._silent_at_s(place) > self._policy.late_s:
                place.heard_s = now

    def _silent_at_s(self, place: _Place) -> float:
        return place.heard_s + self._policy.silence_max_s

    def _kill_reason(self, place: _Place, now: float) -> str:
        if self._kill_at_s is not None:
            return "it did not end in time" if now >= self._kill_at_s else ""
        return f"it was silent for {now - place.heard_s:.1f} s" if now >= self._silent_at_s(place) else ""
