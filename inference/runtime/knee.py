"""The knee of a model: the smallest batch that runs about as many rows a second as any larger one.

Measured in steps short enough to stand between two batches of callers, so that nobody notices it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping

import numpy as np

from inference.errors import Unavailable
from inference.model import ModelLimits
from inference.runtime.session import Session
from inference.tensor import Tensors

log = logging.getLogger(__name__)

KNEE_ROWS_MAX = 256  # beyond it a batch only holds up its neighbours
# Of the best rows/s, this is as good as the best: under 64 callers an LSTM answers 4 % more in batches of 32 than 64,
# though those run 6 % more rows/s alone. Fewer answers have to be written at once, and each waits for less.
KNEE_SHARE = 0.9
BATCH_COST_S = 50e-6  # of a batch beside its session call, at the least: two hops between threads, 21-30 us each
ROUNDS = 3  # each size is timed in several rounds and its best time counts, so that one busy moment spoils none
STEP_S = 0.050  # a step, and so a batch, that takes longer is not tried
REPEAT_S = 0.010  # short calls are repeated for this long


class KneeMeasurement:
    """Times batches of 1, 2, 4 ... rows, step by step.

    Use: `while (rows := knee.next_step()) is not None: knee.measure(rows)`, then `knee.result()`.
    `inputs`: one or more rows that run. `known_s`: seconds of a call by its rows, where they are known already.
    """

    def __init__(
        self, session: Session, inputs: Tensors, limits: ModelLimits, known_s: Mapping[int, float] | None = None
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._rows_max = min(limits.batch_rows_max, KNEE_ROWS_MAX)
        self._best_s: dict[int, float] = {
            rows: run_s for rows, run_s in (known_s or {}).items() if rows <= self._rows_max
        }
        self._steps = self._plan()

    def next_step(self) -> int | None:
        """The batch size to time next, or None when all is measured."""
        return next(self._steps, None)

    def measure(self, rows: int) -> float:
        """Time batches of `rows` rows for some milliseconds; returns and records the best time of one, in seconds.

        A batch that fails is recorded as endless, so that no larger one is tried. One that cannot be tried now, since
        the model's process is being replaced, says nothing.
        """
        inputs = tiled(self._inputs, rows)
        best_s = float("inf")
        ends_s = time.perf_counter() + REPEAT_S
        try:
            while True:
                started_s = time.perf_counter()
                self._session.run(inputs)
                now_s = time.perf_counter()
                best_s = min(best_s, now_s - started_s)
                if now_s >= ends_s:
                    break
        except Unavailable as error:
            log.info("a batch of %d rows was not measured: %s", rows, error)
            return self._best_s.get(rows, float("inf"))
        except Exception as error:  # noqa: BLE001 - a session raises anything; too large a batch is no fault here
            log.warning("a batch of %d rows fails, so the batches stay smaller: %s", rows, error)
            best_s = float("inf")
        self.record(rows, best_s)
        return best_s

    def record(self, rows: int, run_s: float) -> None:
        """Note that a batch of `rows` rows took `run_s` seconds."""
        self._best_s[rows] = min(run_s, self._best_s.get(rows, run_s))

    def result(self) -> int:
        """The smallest batch within a few percent of the best rows/s of all that were timed; 1 if none was.

        Rows/s as the engine gets them: each batch costs BATCH_COST_S beside its session call.
        """
        timed = {rows: run_s + BATCH_COST_S for rows, run_s in self._best_s.items() if 0 < run_s < float("inf")}
        rates = {rows: rows / batch_s for rows, batch_s in timed.items()}
        good_enough = KNEE_SHARE * max(rates.values(), default=0.0)
        return min((rows for rows, rate in rates.items() if rate >= good_enough), default=1)

    def _plan(self) -> Iterator[int]:
        for _ in range(ROUNDS):
            rows = 1
            while rows <= self._rows_max:
                yield rows
                if 2 * self._best_s.get(rows, float("inf")) > STEP_S:
                    break  # the next size may take twice as long
                rows *= 2


def tiled(inputs: Tensors, rows: int) -> Tensors:
    """Inputs of `rows` rows: those given, again and again."""
    places = np.arange(rows)
    return {name: array[places % len(array)] for name, array in inputs.items()}
