"""Runs one Batch at a time: puts requests together, runs them, takes the answers apart, and finds who is to blame.

`run_batch` is the whole of it as a function; Runner is the thread around it, which can be stopped in the middle of a
run or given up.
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

from inference.errors import InferenceError, InputsRejected, RunCrashed, RunFailed, RunHung, Unavailable
from inference.request import Batch, Slice
from inference.runtime.cause import cause_of
from inference.runtime.session import RunStopped, Seat, Session
from inference.tensor import Tensors

log = logging.getLogger(__name__)


# What a session says of itself, and not of its inputs.
LAST_WORDS = (RunStopped, RunCrashed, Unavailable)


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


def no_more() -> None:
    """For who need not know that a batch takes another session call."""


def run_batch(
    session: Session | Seat, batch: Batch, *, batched: bool, canary: Tensors, again: Callable[[], None] = no_more
) -> BatchOutcome:
    """Run all slices in one session call; if that fails, only the slices at fault fail.

    `batched`: axis 0 of every tensor counts rows. Otherwise the batch is one slice, whose inputs go in as they are.
    `canary`: inputs that are known to run. A failing slice gets InputsRejected if it still runs, else RunFailed.
    `again` is called before each further session call. A model whose process died is not run again: every slice gets
    RunCrashed. Raises RunStopped if the session is a seat that was stopped.
    """
    assert batched or len(batch.slices) == 1, "requests of a model that does not batch run alone"
    started_s = time.perf_counter()
    calls = 1
    try:
        results = _run_slices(session, batch.slices, batched)
    except LAST_WORDS as error:
        results = _last_words(batch.slices, error)
    except Exception as error:  # noqa: BLE001 - a session raises anything; the blame is found next
        try:
            results, more_calls = _find_guilty(session, batch.slices, batched, canary, error, again)
        except LAST_WORDS as last:
            results, more_calls = _last_words(batch.slices, last), 1
        calls += more_calls
    return BatchOutcome(results, time.perf_counter() - started_s, calls)


def hung_outcome(batch: Batch, limit_s: float, run_s: float) -> BatchOutcome:
    """RunHung for every slice of a batch that took longer than `limit_s`."""
    return BatchOutcome([SliceOutcome(None, RunHung(str(s.request.model), limit_s)) for s in batch.slices], run_s, 1)


def _last_words(slices: Sequence[Slice], error: Exception) -> list[SliceOutcome]:
    """Nobody is looked for behind these: to run the batch in parts would end the process, or the wait, once more."""
    if not isinstance(error, InferenceError):
        raise error
    return [SliceOutcome(None, error) for _ in slices]


def _run_slices(session: Session | Seat, slices: Sequence[Slice], batched: bool) -> list[SliceOutcome]:
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
    session: Session | Seat,
    slices: Sequence[Slice],
    batched: bool,
    canary: Tensors,
    error: Exception,
    again: Callable[[], None],
) -> tuple[list[SliceOutcome], int]:
    """Outcomes of a batch that failed with `error`, and the calls made to find them.

    The canary comes first: if it fails too, the model is broken and no slice can be proved guilty. Else the batch is
    halved until the slices that fail stand alone, 2 log2(n) calls for one guilty among n.
    """
    again()
    try:
        session.run(canary)
    except LAST_WORDS:
        raise
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
            again()
            try:
                results += _run_slices(session, half, batched)
            except LAST_WORDS:
                raise
            except Exception as half_error:  # noqa: BLE001 - see run_batch
                results += halve(half, half_error)
        return results

    return halve(slices, error), calls


def _failed(part: Slice, error: Exception, *, blame_inputs: bool) -> SliceOutcome:
    if isinstance(error, RunFailed):
        return SliceOutcome(None, error)
    blame = InputsRejected if blame_inputs else RunFailed
    return SliceOutcome(None, blame(str(part.request.model), cause_of(error)))


def _drop(_: BatchOutcome) -> None:
    """For a batch whose outcome is returned."""


@dataclass(slots=True, eq=False)
class _RunJob:
    batch: Batch
    batched: bool
    canary: Tensors
    done: Callable[[BatchOutcome], None]
    again: Callable[[], None] = no_more
    limit_s: float | None = None  # set once it is interrupted

    def do(self, seat: Seat) -> Callable[[], None]:
        """Run it; the call that hands the outcome over."""
        outcome = self.outcome(seat)
        return lambda: self.done(outcome)

    def outcome(self, seat: Seat) -> BatchOutcome:
        """Run it. Raises nothing: whatever happens, every slice has its outcome."""
        started_s = time.perf_counter()
        try:
            return run_batch(seat, self.batch, batched=self.batched, canary=self.canary, again=self.again)
        except RunStopped:
            return hung_outcome(self.batch, self.limit_s or 0.0, time.perf_counter() - started_s)
        except BaseException as error:  # whatever escapes, every caller of the batch gets an answer
            log.exception("a batch of %s escaped its runner", self.batch.slices[0].request.model)
            cause = f"{type(error).__name__}: {error}"
            results = [SliceOutcome(None, RunFailed(str(part.request.model), cause)) for part in self.batch.slices]
            return BatchOutcome(results, 0.0, 1)


@dataclass(slots=True, eq=False)
class _CallJob:
    function: Callable[[], object]
    done: Callable[[object], None]
    limit_s: float | None = None

    def do(self, _: Seat) -> Callable[[], None]:
        """Call it; the call that hands the result over."""
        result: object
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001 - the caller gets it as the result
            result = error
        return lambda: self.done(result)


class Runner:
    """A thread that does what it is given, one after another. `done` is called in this thread, exactly once a job.

    All methods belong to one thread, that of the engine. Where several jobs are queued, `interrupt` and `abandon` mean
    the one that was given last. A job that is over but for handing its outcome over cannot be taken back, so either
    `done` is called or `abandon` has said True, never both.
    """

    def __init__(self, name: str, session: Session) -> None:
        self._seat = session.seat()
        self._jobs: SimpleQueue[_RunJob | _CallJob | None] = SimpleQueue()
        self._guard = threading.Lock()  # over what follows, for nanoseconds at a time
        self._last: _RunJob | _CallJob | None = None  # given last, as long as it is not over
        self._running: _RunJob | _CallJob | None = None
        self._came_back: Callable[[], object] | None = None  # set once it is abandoned
        # A daemon, so that a session call that never returns cannot keep the process from ending after `stop` gave up.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(
        self,
        batch: Batch,
        batched: bool,
        canary: Tensors,
        done: Callable[[BatchOutcome], None],
        again: Callable[[], None] = no_more,
    ) -> None:
        """Queue a batch; see `run_batch`. `again` is called in the runner's thread too."""
        self._give(_RunJob(batch, batched, canary, done, again))

    def run_here(self, batch: Batch, batched: bool, canary: Tensors) -> BatchOutcome:
        """Run a batch in the caller's thread; see `run_batch`. The runner has to be idle."""
        return _RunJob(batch, batched, canary, _drop).outcome(self._seat)

    def call(self, function: Callable[[], object], done: Callable[[object], None]) -> None:
        """Queue a call. `done` gets what `function` returns, or the exception that it raised."""
        self._give(_CallJob(function, done))

    def interrupt(self, limit_s: float) -> bool:
        """Stop the run, which has taken longer than `limit_s`: its callers get RunHung as soon as the model lets go.

        False if it is over. A `call` is not stopped by it.
        """
        with self._guard:
            job = self._last
            if job is None:
                return False
            job.limit_s = limit_s
            if self._running is job:
                self._seat.stop()
            return True

    def abandon(self, came_back: Callable[[], object] = no_more) -> bool:
        """Give the thread up in the middle of its job, whose `done` will not be called. False if the job is over.

        The runner is never used again. `came_back` is called in its thread if that ever ends.
        """
        with self._guard:
            if self._last is None:
                return False
            self._came_back = came_back
            return True

    def stop(self, timeout_s: float) -> bool:
        """Finish what is queued and end. False if the thread is busy after `timeout_s`; it is left behind then."""
        self._jobs.put(None)
        if self._thread.ident is None:
            self._seat.close()
            return True
        self._thread.join(0.0 if self._came_back else timeout_s)
        return not self._thread.is_alive()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _give(self, job: _RunJob | _CallJob) -> None:
        with self._guard:
            self._last = job
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and self._begin(job):
            hand_over = job.do(self._seat)
            if not self._end(job):
                break
            try:
                hand_over()
            except BaseException:  # handing over failed: a fault of ours, no reason to leave the next job undone
                log.exception("runner %s: the outcome of a job could not be handed over", self._thread.name)
            del job, hand_over  # an idle runner must not hold the last batch in memory
        self._seat.close()
        if self._came_back is not None:
            self._came_back()

    def _begin(self, job: _RunJob | _CallJob) -> bool:
        """False if the runner was abandoned before the job began."""
        with self._guard:
            self._running = job
            if job.limit_s is not None:
                self._seat.stop()
            return self._came_back is None

    def _end(self, job: _RunJob | _CallJob) -> bool:
        """False if the runner was abandoned meanwhile, so that nobody waits for the outcome."""
        with self._guard:
            self._running = None
            if job.limit_s is not None:
                self._seat.reset()
            if self._last is job:
                self._last = None
            return self._came_back is None
