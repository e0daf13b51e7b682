"""When a run counts as hung, and what is done about it. Pure: events in, decisions out, `now` in seconds.

A run may take `factor` times what it was predicted to take, and `floor_s` at the least. Beyond that it is stopped; if
it has not ended `grace_s` later, its thread is given up and another takes its place. Threads that were given up still
hold a core and memory, so there may be `abandoned_max` of them; the next one ends the process, for its parent to
restart.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.model import ModelKey


@dataclass(slots=True, frozen=True)
class WatchPolicy:
    """Limits of one run, and of the threads that are given up."""

    floor_s: float = 1.0
    factor: float = 10.0
    unpredicted_s: float = 30.0  # for a run that nothing is known of, such as the first
    grace_s: float = 0.5  # a stopped model ends at its next operator, which takes milliseconds
    abandoned_max: int = 2
    late_s: float = 1.0  # a look that comes this late says that the process stood still, so the runs get their time


@dataclass(slots=True, frozen=True)
class Terminate:
    """This run has hung: its model is not ready, and it is to be stopped."""

    version: ModelKey
    runner: int
    limit_s: float


@dataclass(slots=True, frozen=True)
class Abandon:
    """It could not be stopped: answer its callers, never use its runner again, start another in its place."""

    version: ModelKey
    runner: int
    limit_s: float


@dataclass(slots=True, frozen=True)
class EndProcess:
    """It could not be stopped and too many threads are lost already: only a new process helps."""

    version: ModelKey
    runner: int
    limit_s: float


WatchDecision = Terminate | Abandon | EndProcess


@dataclass(slots=True)
class _Run:
    limit_s: float
    due_s: float  # when the next step is decided
    terminated: bool = False
    pardoned: bool = False


class RunWatch:
    """All runs of one process. A runner has one run at a time and a number that is never used again.

    Bounds: one entry a runner that runs, one a thread that was given up, one a version whose last run hung.
    """

    def __init__(self, policy: WatchPolicy | None = None) -> None:
        self.policy = policy or WatchPolicy()
        self._running: dict[tuple[ModelKey, int], _Run] = {}
        self._abandoned: set[tuple[ModelKey, int]] = set()
        self._hung_s: dict[ModelKey, float] = {}

    @property
    def abandoned(self) -> int:
        """Threads that were given up and have not come back."""
        return len(self._abandoned)

    def hung(self, version: ModelKey) -> float | None:
        """The limit in seconds that a run of this version has passed, until a run of it ends as it should; or None."""
        return self._hung_s.get(version)

    def start(self, version: ModelKey, runner: int, predicted_s: float | None, now: float) -> float:
        """A run begins, or another session call of the same batch. Returns when `tick` has to be called for it."""
        policy = self.policy
        limit_s = policy.unpredicted_s if predicted_s is None else max(policy.floor_s, policy.factor * predicted_s)
        due_s = now + limit_s
        known = self._running.get((version, runner))
        if known is None or not known.terminated:  # what is being stopped gets no more time
            self._running[version, runner] = _Run(limit_s, due_s)
        return due_s

    def end(self, version: ModelKey, runner: int) -> None:
        """A run has ended, well or not, stopped or not; also one that was given up and has come back."""
        self._abandoned.discard((version, runner))
        run = self._running.pop((version, runner), None)
        if run is not None and not run.terminated:
            self._hung_s.pop(version, None)

    def forget(self, version: ModelKey) -> None:
        """This version is served no more. Its threads that were given up still count."""
        self._hung_s.pop(version, None)
        for key in [key for key in self._running if key[0] == version]:
            del self._running[key]

    def tick(self, now: float) -> list[WatchDecision]:
        """Time has passed: what to do about runs that are over their limit."""
        decisions: list[WatchDecision] = []
        for (version, runner), run in list(self._running.items()):
            late_s = now - run.due_s
            if late_s < 0:
                continue
            if late_s > self.policy.late_s and not run.pardoned:
                run.pardoned, run.due_s = True, now + self.policy.floor_s
            elif not run.terminated:
                run.terminated, run.due_s = True, now + self.policy.grace_s
                self._hung_s[version] = run.limit_s
                decisions.append(Terminate(version, runner, run.limit_s))
            else:
                full = len(self._abandoned) >= self.policy.abandoned_max
                del self._running[version, runner]
                self._abandoned.add((version, runner))
                decisions.append((EndProcess if full else Abandon)(version, runner, run.limit_s))
        return decisions

    def next_deadline(self) -> float | None:
        """When `tick` has to be called next."""
        return min((run.due_s for run in self._running.values()), default=None)
