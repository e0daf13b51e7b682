"""How many runners each version gets, within the cores of all. Pure: readings in, changes out, `now` in seconds.

Every `interval_s` each version says what it did. Each judges its own need (`runner_need`), each growth has to prove
itself (`runner_gain`), and here the cores are shared out: more runners than cores never help. A version at its
minimum that sleeps takes no core, so an unused model costs its neighbours nothing; when it wakes, they give back.

Cores that count against the budget never exceed the larger of the budget and the minima of the versions awake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

from inference.decisions.runner_load import Load
from inference.decisions.runner_need import RunnerNeed, ScalingPolicy
from inference.model import ModelKey

REBALANCE_SHARE = 0.7  # a busy version gives a runner only if the worse of both delays falls to this or below


@dataclass(slots=True, frozen=True)
class Grow:
    """Start `by` more runners of this version."""

    key: ModelKey
    by: int
    cause: Literal["minimum", "delay", "burst"]


@dataclass(slots=True, frozen=True)
class Shrink:
    """End `by` runners of this version, idle ones first, busy ones after their batch."""

    key: ModelKey
    by: int
    cause: Literal["maximum", "ease", "no_gain", "budget"]


Change = Grow | Shrink


class Scaling:
    """The runners of all versions. The shell calls `evaluate` at `next_deadline` and carries out what it returns."""

    def __init__(self, policy: ScalingPolicy) -> None:
        self.policy = policy
        self._needs: dict[ModelKey, RunnerNeed] = {}
        self._next_s = 0.0

    def next_deadline(self) -> float:
        """When `evaluate` has to be called next."""
        return self._next_s

    def wanted(self, key: ModelKey) -> int:
        """Runners that this version should have; 0 for one that has not been evaluated."""
        need = self._needs.get(key)
        return need.wanted if need else 0

    def utilisation(self, key: ModelKey) -> float:
        """Share of its runners' time that its batches took lately, 0 to 1."""
        need = self._needs.get(key)
        return need.trace.utilisation if need else 0.0

    @property
    def charged_cores(self) -> int:
        """Cores that count against the budget."""
        return sum(need.charge_cores for need in self._needs.values())

    def evaluate(self, loads: Mapping[ModelKey, Load], now: float) -> list[Change]:
        """One reading of every open version; the changes to carry out, in order, at most one a version."""
        self._next_s = now + self.policy.interval_s
        self._needs = {key: need for key, need in self._needs.items() if key in loads}
        for key, load in loads.items():
            need = self._needs.get(key)
            if need is None:
                self._needs[key] = RunnerNeed(self.policy, load, now)
            else:
                need.observe(load, now)
        changes = [*self._correct(now), *self._reclaim(now), *self._grow(now), *self._ease(now)]
        assert len({change.key for change in changes}) == len(changes), f"two changes of one version: {changes}"
        return changes

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _correct(self, now: float) -> list[Change]:
        """Bounds that do not hold, and growth that brought nothing."""
        changes: list[Change] = []
        for key, need in self._needs.items():
            if need.wanted < need.runners_min:
                changes.append(Grow(key, need.runners_min - need.wanted, "minimum"))
                need.grow(changes[-1].by, now, on_trial=False)
            elif need.wanted > need.runners_max:
                changes.append(Shrink(key, need.wanted - need.runners_max, "maximum"))
                need.shrink(changes[-1].by, now, at_ease=False)
            elif idlers := need.idlers(now):
                changes.append(Shrink(key, idlers, "no_gain"))
                need.shrink(idlers, now, at_ease=False)
        return changes

    def _reclaim(self, now: float) -> list[Change]:
        """A version woke up: those above their minimum give back, first who is at ease, then who waits least."""
        needs = self._needs
        minima = sum(need.runner_cores * need.runners_min for need in needs.values() if need.awake)
        excess = self.charged_cores - max(self.policy.cores, minima)
        changes: list[Change] = []
        if excess > 0:
            for key in sorted(self._donors(now), key=lambda key: (*self._reluctance(key), key)):
                if excess <= 0:
                    break
                need = needs[key]
                by = min(ceil(excess / need.runner_cores), need.wanted - need.runners_min)
                excess -= by * need.runner_cores
                changes.append(self._take(key, by, now))
        return changes

    def _grow(self, now: float) -> list[Change]:
        """Cores to those who wait longest a core; they take from others when none is free."""
        asking = [key for key, need in self._needs.items() if need.changed_s != now and need.growth(now)]
        changes: list[Change] = []
        for key in sorted(asking, key=lambda key: (-self._needs[key].delay_per_core_s, key)):
            need = self._needs[key]
            if need.changed_s == now:
                continue  # it has just given a runner to a version in greater need
            lacking = need.runner_cores - (self.policy.cores - self.charged_cores)
            if lacking > 0:
                given = self._gifts(key, lacking, now)
                if not given:
                    continue
                changes += [self._take(donor, by, now) for donor, by in given.items()]
            by = min(need.growth(now), (self.policy.cores - self.charged_cores) // need.runner_cores)
            changes.append(Grow(key, by, "burst" if need.burst else "delay"))
            need.grow(by, now, on_trial=True)
        return changes

    def _ease(self, now: float) -> list[Change]:
        changes: list[Change] = []
        for key, need in self._needs.items():
            by = need.ease(now) if need.changed_s != now else 0
            if by:
                need.shrink(by, now, at_ease=True)
                changes.append(Shrink(key, by, "ease"))
        return changes

    def _gifts(self, key: ModelKey, lacking: int, now: float) -> dict[ModelKey, int]:
        """Who gives how many runners so that `lacking` cores fall free; nobody if they cannot all be found."""
        given: dict[ModelKey, int] = {}
        donors = [donor for donor in self._donors(now) if donor != key]
        for donor in sorted(donors, key=lambda donor: (*self._reluctance(donor), donor)):
            giver = self._needs[donor]
            by = min(ceil(lacking / giver.runner_cores), giver.wanted - giver.runners_min)
            if giver.at_ease_with(giver.wanted - by) or self._better_with(key, donor, by, now):
                given[donor] = by
                lacking -= by * giver.runner_cores
            if lacking <= 0:
                return given
        return {}

    def _better_with(self, key: ModelKey, donor: ModelKey, by: int, now: float) -> bool:
        """Whether the worse of two delays falls if a busy version gives: then giving back would raise it again."""
        taker, giver = self._needs[key], self._needs[donor]
        if now - max(taker.changed_s, giver.changed_s) < self.policy.shrink_after_s:
            return False
        taker_s, giver_s = taker.trace.predicted_delay_s, giver.trace.predicted_delay_s
        worse_s = max(taker_s * taker.wanted / (taker.wanted + 1), giver_s * giver.wanted / (giver.wanted - by))
        return worse_s <= REBALANCE_SHARE * taker_s

    def _donors(self, now: float) -> list[ModelKey]:
        return [k for k, need in self._needs.items() if need.wanted > need.runners_min and need.changed_s != now]

    def _reluctance(self, key: ModelKey) -> tuple[bool, float]:
        need = self._needs[key]
        return not need.at_ease_with(need.wanted - 1), need.delay_per_core_s

    def _take(self, key: ModelKey, by: int, now: float) -> Shrink:
        self._needs[key].shrink(by, now, at_ease=False)
        return Shrink(key, by, "budget")
