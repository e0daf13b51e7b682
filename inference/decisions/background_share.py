"""When a batch of a job may run before live rows that wait, and how large it may be. Pure: `now` in seconds.

Background rows take what the live ones leave. So that a job also ends where live callers never pause, it has a minimum
share of the runners' time, kept as a credit in seconds of a runner:

    credit grows by     share_min * runners * the time that passes
    credit falls by     what background batches take, as measured, whoever waited meanwhile
    credit is at most   batch_s + share_min * runners * full_s          one batch, and what grows during a live one
    credit is at least  -share_min * runners * MEMORY_S             what was had in idle times counts no longer

A batch may go first when its time is on the credit. So in any stretch of T seconds batches that went first had at most
share_min * runners * T and the largest credit; and where both bands wait all the time background has had at least that
share, but for the largest credit and, at its beginning, MEMORY_S.
"""

from __future__ import annotations

import msgspec

from inference.decisions.cost_model import CostModel

MEMORY_S = 4.0


class BackgroundPolicy(msgspec.Struct, frozen=True):
    """`batch_s_max`: seconds that a background batch is predicted to take at most, one row excepted.

    `share_min`: of the runners' time, also while live callers wait; 0 to 0.5.
    """

    batch_s_max: float = 0.005
    share_min: float = 0.05


def rows_of_a_batch(cost: CostModel, waiting: int, rows_max: int, batch_s_max: float) -> int:
    """How many of a request's `waiting` rows run next: as many as take `batch_s_max`, and at least one.

    They are spread evenly, so that none of the batches that are left is a small rest. While nothing is known of the
    cost, it is one.
    """
    if not cost.known:
        return 1
    rows_max = min(rows_max, waiting)
    if cost.predict(rows_max) > batch_s_max:  # so it has a cost by row or by batch
        rows_max = max(1, int((batch_s_max - cost.b_s) / cost.a_s)) if cost.a_s > 0.0 else 1
    return -(-waiting // -(-waiting // rows_max))


class BackgroundShare:
    """The credit of one version's background rows. `share_min` may be changed at any time."""

    __slots__ = ("_credit_s", "_seen_s", "share_min")

    def __init__(self, share_min: float) -> None:
        self.share_min = share_min
        self._credit_s = 0.0
        self._seen_s: float | None = None

    def credit_max_s(self, batch_s: float, full_s: float, runners: int) -> float:
        """Seconds of a runner that background batches of `batch_s` may take at once before live rows.

        `full_s`: what a full live batch takes.
        """
        return batch_s + self.share_min * runners * full_s

    def may_go_first(self, batch_s: float, full_s: float, runners: int, now: float) -> bool:
        """Whether a batch that is predicted to take `batch_s` may start now though live rows wait."""
        if not self.share_min:
            return False
        if self._seen_s is not None:
            self._credit_s += self.share_min * runners * (now - self._seen_s)
        self._seen_s = now
        self._credit_s = max(self._credit_s, -self.share_min * runners * MEMORY_S)
        self._credit_s = min(self._credit_s, self.credit_max_s(batch_s, full_s, runners))
        return self._credit_s >= batch_s

    def took(self, seconds: float) -> None:
        """A background batch had a runner for so long, or for so much longer than was said before."""
        self._credit_s -= seconds
