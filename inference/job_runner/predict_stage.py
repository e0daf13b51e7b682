"""Runs the rows of a block through the model, in batches; rows that it cannot answer fail alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from inference.decisions.batch_search import BatchSearch
from inference.errors import InputsRejected, NonFiniteOutput, RunCrashed, RunFailed, Unavailable
from inference.job_runner.batch_memory import BatchMemory
from inference.pipeline.bulk import PreparedRows, RowsDiffer
from inference.runtime.cause import cause_of
from inference.runtime.session import RunStopped, Session
from inference.shard import BatchSample, RowFault
from inference.tensor import Array, Tensors

READY_WAIT_S = 120.0  # for a model's process to come back; a pool tries again within a minute
READY_LOOK_S = 0.05
OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "out of memory", "Cannot allocate memory")


@dataclass(slots=True, eq=False)
class Predicted:
    """A block's answers: `outputs` has a row for each of the block's good rows, anything for those that `failed`.

    Faults count in the block. Rows of an output whose shape differs from row to row are an object array of arrays.
    """

    outputs: Tensors
    failed: list[RowFault]


@dataclass(slots=True, eq=False)
class _Block:
    """A block on its way through the model."""

    prepared: PreparedRows
    stopped: threading.Event
    outputs: Tensors = field(default_factory=dict)
    failed: list[RowFault] = field(default_factory=list)
    proved: bool = False  # the canary has run since a batch failed


class PredictStage:
    """Cuts blocks into batches and runs them, one at a time; a worker has one stage, and one thread calls it.

    `model`: its name for messages. `batched`: rows answer in a batch as they do alone, as the probe has shown; else
    each runs alone. `size`: rows of every batch, or a search for the best. `canary`: inputs of one row that run.
    `memory`: what bounds the sizes that a search tries.
    """

    def __init__(
        self,
        model: str,
        session: Session,
        size: int | BatchSearch,
        canary: Tensors,
        *,
        batched: bool,
        memory: BatchMemory | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._session = session
        self._search = size if isinstance(size, BatchSearch) and batched else None
        self._rows = 1 if not batched else size if isinstance(size, int) else 0
        self._canary = canary
        self._stacked = session.signature.batch_axis() is None  # a row's outputs have no axis of rows
        self._names = [spec.name for spec in session.signature.outputs]
        self._memory = memory
        self._clock = clock
        self._seen: dict[int, list[float]] = {}  # by rows of a batch: runs, seconds, squares of them

    def run(self, prepared: PreparedRows, stopped: threading.Event) -> Predicted:
        """The answers to all good rows.

        Raises RunStopped before the next batch once `stopped` is set; RunFailed if the model runs not even its canary;
        Unavailable if it is not there and does not come back.
        """
        block = _Block(prepared, stopped)
        count = len(prepared.good)
        batches: list[tuple[int, int]] = []
        start = 0
        while start < count:
            if stopped.is_set():
                raise RunStopped
            stop = min(count, start + self._next_rows())
            error = self._whole(block, start, stop)
            if error is None:
                batches.append((start, stop))
            else:
                self._in_parts(block, start, stop, error)
            start = stop
        for start, stop in _not_finite(block.outputs, batches):
            self._in_parts(block, start, stop, NonFiniteOutput(self._model, self._names))
        for name in self._names:
            if name not in block.outputs:
                block.outputs[name] = np.zeros((count, *self._row_shape(name)), np.float32)
        return Predicted(block.outputs, sorted(block.failed, key=lambda fault: fault.row))

    def take_samples(self) -> tuple[BatchSample, ...]:
        """What batches took since the last call, by their rows; those that failed do not count."""
        samples = tuple(BatchSample(rows, int(seen[0]), seen[1], seen[2]) for rows, seen in sorted(self._seen.items()))
        self._seen.clear()
        return samples

    def _next_rows(self) -> int:
        search = self._search
        if search is None:
            return self._rows
        rows = search.next_rows()
        while self._memory is not None and rows > 1 and not self._memory.allows(rows):
            search.refused(rows)
            rows = search.next_rows()
        return rows

    def _whole(self, block: _Block, start: int, stop: int) -> Exception | None:
        """Run a batch; why it failed. The model takes all caches, so that each line of Python here costs some 1 us."""
        started_s = self._clock()
        try:
            outputs = self._session.run(block.prepared.tensors(start, stop))
        except Exception as error:  # noqa: BLE001 - a session raises anything; the blame is found next
            return error
        self._store(block, start, stop, outputs)
        self._observe(stop - start, self._clock() - started_s)
        return None

    def _observe(self, rows: int, seconds: float) -> None:
        seen = self._seen.get(rows)
        if seen is None:
            seen = self._seen[rows] = [0, 0.0, 0.0]
        seen[0] += 1
        seen[1] += seconds
        seen[2] += seconds * seconds
        if self._search is not None:
            self._search.observe(rows, seconds)
        if self._memory is not None:
            self._memory.ran(rows)

    def _in_parts(self, block: _Block, start: int, stop: int, error: Exception) -> None:
        """A batch failed with `error`: run its halves, and halves of these, until rows without answer stand alone."""
        block.proved = False
        pending: list[tuple[int, int, Exception | None]] = [(start, stop, error)]
        while pending:
            first, last, failure = pending.pop()
            if failure is None or isinstance(failure, Unavailable):
                failure = self._run_rows(block, first, last)
            if failure is None:
                continue
            fault = self._blamed(block, failure, last - first)
            if last - first == 1:
                block.failed.append(RowFault(int(block.prepared.good[first]), *fault))
                continue
            middle = (first + last) // 2
            pending += [(middle, last, None), (first, middle, None)]

    def _run_rows(self, block: _Block, start: int, stop: int) -> Exception | None:
        """Run some rows and keep their answers; why they have none."""
        if block.stopped.is_set():
            raise RunStopped
        try:
            outputs = self._answer(block.prepared.tensors(start, stop), block.stopped)
        except (RunStopped, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - as in `_whole`
            return error
        bad = [name for name, array in outputs.items() if not _finite(array)]
        if bad:
            return NonFiniteOutput(self._model, bad)
        self._store(block, start, stop, outputs)
        return None

    def _blamed(self, block: _Block, error: Exception, rows: int) -> tuple[str, str]:
        """Reason and sentence, for the case that one row is to blame. Raises RunFailed if the model is."""
        if isinstance(error, RunStopped):
            raise error
        if isinstance(error, (NonFiniteOutput, RunCrashed)):
            return error.reason, str(error)
        if not self._too_large(error, rows) and not block.proved:
            self._prove(error, block.stopped)
            block.proved = True
        rejected = InputsRejected(self._model, cause_of(error))
        return rejected.reason, str(rejected)

    def _answer(self, inputs: Tensors, stopped: threading.Event) -> Tensors:
        """What the session answers; a model whose process is gone is waited for."""
        waited_s = 0.0
        while True:
            try:
                return self._session.run(inputs)
            except Unavailable:
                if waited_s >= READY_WAIT_S:
                    raise
            while self._session.unready and waited_s < READY_WAIT_S:
                waited_s += READY_LOOK_S
                if stopped.wait(READY_LOOK_S):
                    raise RunStopped
            waited_s += READY_LOOK_S

    def _too_large(self, error: Exception, rows: int) -> bool:
        """Whether rows cannot run together, which blames none of them; a search asks for no such batch again."""
        if rows == 1:
            return False
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            if self._search is not None:
                self._search.refused(rows)
            return True
        return isinstance(error, RowsDiffer)

    def _prove(self, error: Exception, stopped: threading.Event) -> None:
        """The model still runs what it has run, so that the rows are to blame. Raises RunFailed if it does not."""
        try:
            self._answer(self._canary, stopped)
        except (RunStopped, Unavailable):
            raise
        except Exception as second:
            raise RunFailed(self._model, cause_of(error)) from second

    def _store(self, block: _Block, start: int, stop: int, outputs: Tensors) -> None:
        count = len(block.prepared.good)
        for name, answers in outputs.items():
            array = answers[None] if self._stacked else answers
            if array.ndim == 0 or len(array) != stop - start:
                cause = f"its output {name!r} has shape {list(array.shape)} for {stop - start} rows of input"
                raise RunFailed(self._model, f"{cause}, so the answers cannot be told apart")
            kept = block.outputs.get(name)
            if kept is None:
                kept = block.outputs[name] = np.zeros((count, *array.shape[1:]), array.dtype)
            if kept.shape[1:] == array.shape[1:]:
                kept[start:stop] = array
            else:
                block.outputs[name] = _as_objects(kept, start, stop, array)

    def _row_shape(self, name: str) -> tuple[int, ...]:
        (spec,) = [spec for spec in self._session.signature.outputs if spec.name == name]
        shape = spec.shape if self._stacked else spec.shape[1:]
        return tuple(dim if isinstance(dim, int) else 0 for dim in shape)


def _finite(array: Array) -> bool:
    if array.dtype.kind == "f":
        return int(np.count_nonzero(np.isfinite(array))) == array.size
    mixed = array.dtype.kind == "O" and len(array) > 0 and isinstance(array.flat[0], np.ndarray)
    return not mixed or all(_finite(row) for row in array)


def _not_finite(outputs: Tensors, batches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Batches with an answer that is NaN or infinite. All are looked at together, for the usual case that none is."""
    bad: set[tuple[int, int]] = set()
    for array in outputs.values():
        if not _finite(array):
            bad |= {batch for batch in batches if not _finite(array[slice(*batch)])}
    return sorted(bad)


def _as_objects(kept: Array, start: int, stop: int, array: Array) -> Array:
    """Rows of different shapes, each an array of its own."""
    if kept.dtype == np.object_ and kept.ndim == 1:
        mixed = kept
    else:
        mixed = np.empty(len(kept), np.object_)
        for place in range(len(kept)):
            mixed[place] = kept[place]
    for place in range(start, stop):
        mixed[place] = array[place - start]
    return mixed
