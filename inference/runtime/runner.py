"""Runs one Batch at a time: puts requests together, runs them, takes the answers apart, and finds who is to blame.

`run_batch` is the whole of it as a function; Runner is the thread around it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import msgspec
import numpy as np

from inference.errors import InferenceError, InputsRejected, RunFailed
from inference.request import Batch, Slice
from inference.runtime.cause import cause_of
from inference.runtime.session import Session
from inference.tensor import Tensors

log = logging.getLogger(__name__)


class SliceOutcome(msgspec.Struct, frozen=True):
    """What became of one slice: outputs, or the error. `non_finite` names outputs that hold NaN or infinity."""

    outputs: Tensors | None
    error: InferenceError | None
    non_finite: tuple[str, ...] = ()


class BatchOutcome(msgspec.Struct, frozen=True):
    """One outcome a slice, in the order of the batch; seconds that all of it took; session calls that it took."""

    results: list[SliceOutcome]
    run_s: float
    calls: int


def run_batch(session: Session, batch: Batch, *, batched: bool, canary: Tensors) -> BatchOutcome:
    """Run all slices in one session call; if that fails, only the slices at fault fail.

    `batched`: axis 0 of every tensor counts rows. Otherwise the batch is one slice, whose inputs go in as they are.
    `canary`: inputs that are known to run. A failing slice gets InputsRejected if it still runs, else RunFailed.
    """
    assert batched or len(batch.slices) == 1, "requests of a model that does not batch run alone"
    started_s = time.perf_counter()
    calls = 1
    try:
        results = _run_slices(session, batch.slices, batched)
    except Exception as error:  # noqa: BLE001 - a session raises anything; the blame is found next
        results, more_calls = _find_guilty(session, batch.slices, batched, canary, error)
        calls += more_calls
    return BatchOutcome(results, time.perf_counter() - started_s, calls)


def _run_slices(session: Session, slices: Sequence[Slice], batched: bool) -> list[SliceOutcome]:
    if not batched:
        outputs = session.run(slices[0].request.inputs)
        return [SliceOutcome(outputs, None, _non_finite(outputs))]
    if len(slices) == 1:
        outputs = session.run(_rows_of(slices[0]))
        _check_rows(slices[0], outputs, slices[0].rows)
        return [SliceOutcome(outputs, None, _non_finite(outputs))]
    parts = [_rows_of(part) for part in slices]
    outputs = session.run({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    _check_rows(slices[0], outputs, sum(part.rows for part in slices))
    any_non_finite = bool(_non_finite(outputs))
    named = list(outputs.items())
    first, array = named[0]
    results = []
    start = 0
    for part in slices:
        stop = start + part.stop - part.start
        own = {first: array[start:stop]} if len(named) == 1 else {name: each[start:stop] for name, each in named}
        results.append(SliceOutcome(own, None, _non_finite(own) if any_non_finite else ()))
        start = stop
    return results


def _rows_of(part: Slice) -> Tensors:
    """The rows of a slice, without a copy: the request's own tensors if it is all of it."""
    request = part.request
    if part.stop - part.start == request.rows:
        return request.inputs
    return {name: array[part.start : part.stop] for name, array in request.inputs.items()}


def _check_rows(part: Slice, outputs: Tensors, rows: int) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            cause = f"its output {name!r} has shape {list(array.shape)} for {rows} rows of input"
            raise RunFailed(str(part.request.model), f"{cause}, so the answers cannot be told apart")


def _non_finite(outputs: Tensors) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for name, array in outputs.items():
        # Counting takes half the time of `all` on the few values of a usual answer.
        if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) != array.size:
            found = (*found, name)
    return found


def _find_guilty(
    session: Session, slices: Sequence[Slice], batched: bool, canary: Tensors, error: Exception
) -> tuple[list[SliceOutcome], int]:
    """Outcomes of a batch that failed with `error`, and the calls made to find them.

    The canary comes first: if it fails too, the model is broken and no slice can be proved guilty. Else the batch is
    halved until the slices that fail stand alone, 2 log2(n) calls for one guilty among n.
    """
    try:
        session.run(canary)
    except Exception:  # noqa: BLE001 - a session raises anything; that it does is the answer
        return [_failed(part, error, blame_inputs=False) for part in slices], 1
    calls = 1

    def halve(slices: Sequence[Slice], error: Exception) -> list[SliceOutcome]:
        nonlocal calls
        if len(slices) == 1:
            return [_failed(slices[0], error, blame_inputs=True)]
        results: list[SliceOutcome] = []
        middle = len(slices) // 2
        for half in (slices[:middle], slices[middle:]):
            calls += 1
            try:
                results += _run_slices(session, half, batched)
            except Exception as half_error:  # noqa: BLE001 - see run_batch
                results += halve(half, half_error)
        return results

    return halve(slices, error), calls


def _failed(part: Slice, error: Exception, *, blame_inputs: bool) -> SliceOutcome:
    if isinstance(error, RunFailed):
        return SliceOutcome(None, error)
    blame = InputsRejected if blame_inputs else RunFailed
    return SliceOutcome(None, blame(str(part.request.model), cause_of(error)))


@dataclass(slots=True)
class _RunJob:
    batch: Batch
    batched: bool
    canary: Tensors
    done: Callable[[BatchOutcome], None]

    def do(self, session: Session) -> None:
        try:
            outcome = run_batch(session, self.batch, batched=self.batched, canary=self.canary)
        except BaseException as error:  # whatever escapes, every caller of the batch gets an answer
            log.exception("a batch of %s escaped its runner", self.batch.slices[0].request.model)
            cause = f"{type(error).__name__}: {error}"
            results = [SliceOutcome(None, RunFailed(str(part.request.model), cause)) for part in self.batch.slices]
            outcome = BatchOutcome(results, 0.0, 1)
        self.done(outcome)


@dataclass(slots=True)
class _CallJob:
    function: Callable[[], object]
    done: Callable[[object], None]

    def do(self, _: Session) -> None:
        result: object
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001 - the caller gets it as the result
            result = error
        self.done(result)


class Runner:
    """A thread that does what it is given, one after another. `done` is called in this thread, exactly once a job."""

    def __init__(self, name: str, session: Session) -> None:
        self._session = session
        self._jobs: SimpleQueue[_RunJob | _CallJob | None] = SimpleQueue()
        # A daemon, so that a session call that never returns cannot keep the process from ending after `stop` gave up.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, batch: Batch, batched: bool, canary: Tensors, done: Callable[[BatchOutcome], None]) -> None:
        """Queue a batch; see `run_batch`."""
        self._jobs.put(_RunJob(batch, batched, canary, done))

    def call(self, function: Callable[[], object], done: Callable[[object], None]) -> None:
        """Queue a call. `done` gets what `function` returns, or the exception that it raised."""
        self._jobs.put(_CallJob(function, done))

    def stop(self, timeout_s: float) -> bool:
        """Finish what is queued and end. False if the thread is busy after `timeout_s`; it is left behind then."""
        self._jobs.put(None)
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.do(self._session)
            except BaseException:  # handing over failed: a fault of ours, no reason to leave the next job undone
                log.exception("runner %s: the outcome of a job could not be handed over", self._thread.name)
            del job  # an idle runner must not hold the last batch in memory
