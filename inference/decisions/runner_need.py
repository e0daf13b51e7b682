"""How many runners one version wants, as far as it alone is concerned. Pure: `now` in seconds.

Fast up: a delay above the target, or refusals, with busy runners, for `grow_after_s`; a burst does not wait so long.
Slow down: work that fewer runners would do at ease, for `shrink_after_s`. What keeps it from flapping:

- the two marks lie apart, and the load at the lower one is counted on the runners that would be left;
- a load that so many runners were too slow for is remembered, and is no ease for as many;
- after a shrink only a burst makes it grow within `shrink_after_s`;
- a shrink that had to be undone soon doubles the wait before the next one, up to 16 times, until it is forgiven;
- at most CHANGES_PER_MINUTE changes; shrinks may use half of them, so that growth is never the one to wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil

from inference.decisions.runner_gain import WINDOW_S, RunnerGain
from inference.decisions.runner_load import Load, LoadTrace, Window, between

UTILISATION_HIGH = 0.75  # below it more runners would not help: the delay has another cause
UTILISATION_LOW = 0.6  # of the runners that would be left
MISSED_SHARE = 0.8  # of a demand that so many runners were too slow for: what they are trusted with
MISSED_AGE_MAX_S = 900.0  # then the reason may be gone
REFUSED_SHARE = 0.02  # of the arriving rows, from which refusals count as pressure
SETTLE_S = 0.25  # after a change: new threads warm up, and batches end that were started before it
BURST_DELAYS = 4.0  # target delays that make a burst
BURST_REFUSED_SHARE = 0.1
BASELINE_PATIENCE = 4.0  # times `grow_after_s` that a growth waits for batches to compare with
CHANGES_PER_MINUTE = 12
REGRETS_MAX = 4
FORGIVE_AFTER = 8.0  # times the present wait before a shrink
AWAKE_RUNNERS = 0.5  # busy runners from which a version's minimum counts against the cores
ASLEEP_RUNNERS = 0.25


@dataclass(slots=True, frozen=True)
class ScalingPolicy:
    """What scaling obeys. `cores` is the budget of all versions together."""

    cores: int
    target_delay_s: float = 0.02
    interval_s: float = 0.25
    grow_after_s: float = 1.0
    shrink_after_s: float = 15.0


class RunnerNeed:
    """One version: its figures, the timers of pressure and ease, what runners gained it, and its memory of regrets."""

    def __init__(self, policy: ScalingPolicy, load: Load, now: float) -> None:
        self._policy = policy
        self.trace = LoadTrace(load, now)
        self.wanted = load.runners
        self.awake = False
        self.changed_s = -float("inf")
        self._gain = RunnerGain()
        self._changes: deque[float] = deque()
        self._pressed: tuple[float, Load] | None = None  # since when, and the totals then
        self._missed: dict[int, tuple[float, float]] = {}  # by runners: the demand that was too much, and when
        self._unproven = False  # the last change was a growth that has not been measured yet
        self._eased_s: float | None = None
        self._slept_s: float | None = None
        self._calm_until_s = -float("inf")
        self._shrunk_s = -float("inf")  # for ease
        self._regrets = 0
        self._regretted_s = -float("inf")

    # ---- what is so --------------------------------------------------------------------------------------------------

    @property
    def runners_min(self) -> int:
        """The fewest runners."""
        return self.trace.load.bounds.runners_min

    @property
    def runners_max(self) -> int:
        """The most runners, at least the fewest."""
        bounds = self.trace.load.bounds
        return max(bounds.runners_min, bounds.runners_max or self._policy.cores // max(1, bounds.runner_cores))

    @property
    def runner_cores(self) -> int:
        """Cores that each runner keeps busy."""
        return self.trace.load.bounds.runner_cores

    @property
    def charge_cores(self) -> int:
        """Cores that count against the budget: the minimum of a version that sleeps takes none."""
        return self.runner_cores * (self.wanted if self.awake else max(0, self.wanted - self.runners_min))

    @property
    def delay_per_core_s(self) -> float:
        """What decides between versions when the cores are all taken."""
        return self.trace.predicted_delay_s / self.runner_cores

    @property
    def burst(self) -> bool:
        """Whether the pressure is such that nothing waits."""
        trace = self.trace
        return trace.delay_s > BURST_DELAYS * self._policy.target_delay_s or trace.refused_share > BURST_REFUSED_SHARE

    def at_ease_with(self, runners: int) -> bool:
        """Whether so many runners would do the present work with room to spare."""
        trace = self.trace
        meets = trace.delay_s <= self._policy.target_delay_s and trace.refused_share < REFUSED_SHARE
        most = UTILISATION_LOW * runners
        for count, (demand, seen_s) in self._missed.items():
            if count >= runners and trace.seen_s - seen_s < MISSED_AGE_MAX_S:
                most = min(most, MISSED_SHARE * demand)
        return meets and trace.usual_demand_runners < most

    # ---- events ------------------------------------------------------------------------------------------------------

    def observe(self, load: Load, now: float) -> None:
        """A reading of the version."""
        if load.runners != self.wanted:  # one was lost, or could not be started
            self._pressed, self.wanted = None, load.runners
        before, before_s = self.trace.load, self.trace.seen_s
        if not self.trace.observe(load, now):
            return
        trace, target_s = self.trace, self._policy.target_delay_s
        late = trace.delay_s > target_s or trace.refused_share >= REFUSED_SHARE
        if not (late and trace.utilisation >= UTILISATION_HIGH):
            self._pressed = None
        elif self._pressed is None and before_s - self.changed_s >= SETTLE_S:
            self._pressed = (before_s, before)
        eased = self.wanted > self.runners_min and self.at_ease_with(self.wanted - 1)
        self._eased_s = (now if self._eased_s is None else self._eased_s) if eased else None
        self._note_sleep(now)

    def idlers(self, now: float) -> int:
        """Runners that bring nothing, as far as the pressure up to now has shown."""
        window = self._window(now)
        if window is None:
            return 0
        if self._unproven and window.seconds >= WINDOW_S and self._told(window):
            self._unproven = False
        kept = self._gain.observe(window, self.trace.load, now)
        return self.wanted - max(kept, self.runners_min)

    def growth(self, now: float) -> int:
        """Runners that should be added now, were there cores."""
        window = self._window(now)
        if window is None or self._unproven or self._changes_lately(now) >= CHANGES_PER_MINUTE:
            return 0
        burst = self.burst
        if now < self._calm_until_s and not burst:
            return 0
        if window.seconds < (2.0 * self._policy.interval_s if burst else self._policy.grow_after_s):
            return 0
        if not self._told(window):
            return 0
        needed = ceil(self.trace.demand_runners / UTILISATION_HIGH) - self.wanted
        by = 1 if self._gain.careful else max(1, min(needed, self.wanted))  # at most twice as many at a time
        ceiling = self._gain.ceiling(now)
        top = self.runners_max if ceiling is None else min(self.runners_max, ceiling)
        return max(0, min(by, top - self.wanted))

    def ease(self, now: float) -> int:
        """Runners that should be given up now."""
        if self._eased_s is None or now - self._eased_s < self._shrink_after_s:
            return 0
        if self._changes_lately(now) >= CHANGES_PER_MINUTE // 2:
            return 0
        by = min(max(1, self.wanted // 4), self.wanted - self.runners_min)
        while by > 1 and not self.at_ease_with(self.wanted - by):
            by -= 1
        return by

    def grow(self, by: int, now: float, *, on_trial: bool) -> None:
        """`by` runners are added. `on_trial`: for its load, so that they have to prove their worth."""
        if on_trial:
            demand = max(self.trace.demand_runners, self.trace.usual_demand_runners)
            self._missed[self.wanted] = (demand, now)
            if now - self._shrunk_s < self._shrink_after_s:
                self._regrets = min(REGRETS_MAX, self._regrets + 1)
                self._regretted_s, self._shrunk_s = now, -float("inf")
        self._change(self.wanted + by, now)
        self._unproven = on_trial

    def shrink(self, by: int, now: float, *, at_ease: bool) -> None:
        """`by` runners are given up. `at_ease`: since it does not need them, which it may come to regret."""
        if at_ease:
            if self._regrets and now - self._regretted_s >= FORGIVE_AFTER * self._shrink_after_s:
                self._regrets -= 1
                self._regretted_s = now
            self._shrunk_s = now
        self._calm_until_s = now + self._policy.shrink_after_s
        self._change(self.wanted - by, now)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _window(self, now: float) -> Window | None:
        """What has happened since the pressure began; None without pressure."""
        if self._pressed is None:
            return None
        since_s, since = self._pressed
        return between(since, self.trace.load, now - since_s)

    def _told(self, window: Window) -> bool:
        """Whether there are figures to compare with, or they have been waited for long enough."""
        patience_s = BASELINE_PATIENCE * self._policy.grow_after_s
        return window.seconds >= patience_s or self._gain.measured(window, self.wanted)

    @property
    def _shrink_after_s(self) -> float:
        return self._policy.shrink_after_s * float(2**self._regrets)

    def _change(self, wanted: int, now: float) -> None:
        self.wanted, self.changed_s = wanted, now
        self._changes.append(now)
        self._pressed = self._eased_s = None
        self._unproven = False

    def _changes_lately(self, now: float) -> int:
        while self._changes and now - self._changes[0] >= 60.0:
            self._changes.popleft()
        return len(self._changes)

    def _note_sleep(self, now: float) -> None:
        busy = self.trace.busy_runners
        if busy >= AWAKE_RUNNERS or self._pressed is not None or self.wanted > self.runners_min:
            self.awake, self._slept_s = True, None
        elif busy >= ASLEEP_RUNNERS:
            self._slept_s = None
        elif self._slept_s is None:
            self._slept_s = now
        elif now - self._slept_s >= self._policy.shrink_after_s:
            self.awake = False
