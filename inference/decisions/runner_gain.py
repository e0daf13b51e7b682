"""Whether added runners pay, by measurement. Pure: `now` in seconds.

More threads do not always make a model faster: the interpreter lock, the memory's bandwidth or a core that is taken
elsewhere may be the limit. So the rows a second that each number of runners reached under pressure are remembered, and
runners that reach no more than fewer did are given up. They are not tried again for a while, each time twice as long.
"""

from __future__ import annotations

from inference.decisions.runner_load import Load, Window

WINDOW_S = 1.0  # of pressure, before more runners are compared with fewer
BATCHES_A_RUNNER = 8  # in a window: those that its edges cut then weigh at most an eighth
GAIN_SHARE = 0.25  # of what the added runners would bring if they were as good as the first ones
GAIN_MIN = 0.05  # below that it is noise
WAIT_SHARE = 0.5  # waits that fell this far are a gain as well: small batches run sooner, not faster
KEEPS_UP_SHARE = 0.95  # of the arriving rows are finished
NEEDED_SHARE = 0.9  # of what fewer runners reached; when more than this arrives, they could not be trusted with it

AGE_MAX_S = 900.0  # then what was measured may no longer be so
BAR_FIRST_S = 60.0
BAR_MAX_S = 960.0


class _Reached:
    """Rows a second of full-time runners, the wait meanwhile, and when that was."""

    __slots__ = ("rows_per_s", "seen_s", "wait_s")

    def __init__(self, window: Window, runners: int, now: float) -> None:
        self.rows_per_s = window.rows_per_s / max(0.5, min(1.0, window.busy_s / (window.seconds * runners)))
        self.wait_s = window.wait_s
        self.seen_s = now


class RunnerGain:
    """What each number of runners of a version has reached, and which number is barred for now."""

    def __init__(self) -> None:
        self._reached: dict[int, _Reached] = {}
        self._ceiling = 0
        self._barred_until_s = -float("inf")
        self._bar_s = BAR_FIRST_S
        self.careful = False  # one runner at a time, since several at once did not pay

    def ceiling(self, now: float) -> int | None:
        """The most runners that may be tried now; None: no bar."""
        return self._ceiling if now < self._barred_until_s else None

    def measured(self, window: Window, runners: int) -> bool:
        """Whether this window of pressure tells anything."""
        return window.batches >= BATCHES_A_RUNNER * runners and window.rows_per_s > 0.0

    def observe(self, window: Window, load: Load, now: float) -> int:
        """A window of pressure up to now. Returns the number of runners to keep, fewer if the others bring nothing."""
        runners = load.runners
        if not self.measured(window, runners):
            return runners
        self._reached[runners] = _Reached(window, runners, now)
        if window.seconds < WINDOW_S:
            return runners
        past = {count: seen for count, seen in self._reached.items() if now - seen.seen_s < AGE_MAX_S}
        kept = runners
        for count in sorted((count for count in past if count < runners), reverse=True):
            if self._faster(past, kept, count):
                if kept == runners > self._ceiling:
                    self._bar_s, self.careful = BAR_FIRST_S, False
                break
            if past[kept].wait_s <= WAIT_SHARE * past[count].wait_s or _keeps_up_beyond(window, past[count]):
                break
            kept = count
        if kept < runners:
            self._bar(kept, runners, now)
        return kept

    @staticmethod
    def _faster(past: dict[int, _Reached], more: int, fewer: int) -> bool:
        needed = 1.0 + max(GAIN_MIN, GAIN_SHARE * (more - fewer) / fewer)
        return past[more].rows_per_s >= needed * past[fewer].rows_per_s

    def _bar(self, kept: int, tried: int, now: float) -> None:
        """Runners that bring nothing together may hide one that does, so the first of them may be tried alone."""
        self._barred_until_s = now + self._bar_s
        self.careful = True
        if kept + 1 in self._reached:
            self._ceiling = kept
            self._bar_s = min(BAR_MAX_S, 2.0 * self._bar_s)
        else:
            self._ceiling = tried - 1


def _keeps_up_beyond(window: Window, fewer: _Reached) -> bool:
    """Whether the runners keep up with more than fewer of them could surely do."""
    keeps_up = window.finished_rows >= KEEPS_UP_SHARE * window.arrived_rows
    return keeps_up and window.arrived_rows > NEEDED_SHARE * fewer.rows_per_s * window.seconds
