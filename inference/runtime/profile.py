"""Whether a model may batch, and how large a batch pays: a probe at load, a measurement later, a cache between starts.

Batching must never change an answer. The batch axis is used only if every input and output carries the same named axis
0 and the probe has shown that rows answer in a batch as they do alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from inference.errors import InvalidTensor
from inference.model import ModelLimits, Signature
from inference.runtime.cause import cause_of
from inference.runtime.knee import KneeMeasurement as KneeMeasurement
from inference.runtime.profile_cache import ProfileCache as ProfileCache
from inference.runtime.session import Session
from inference.tensor import DTYPES, Array, Tensors, TensorSpec, element_count

log = logging.getLogger(__name__)

PROBE_ROWS = 8  # also the knee to start with: most of what batching gains is gained by then
CACHED_PROBE_ROWS = 4  # where there is nothing to time
PROBE_ROWS_ALONE = 3
BRIEF_S = 0.005  # a shorter call is timed twice where it matters: what a size costs once would hide what it costs
ALONE_RATIO = 7.0  # a batch of 8 that takes this many times a row gains too little for its wait
OPEN_SIZES = (1, 8)  # tried in this order for sizes that the signature leaves open
FILLED_SIZE_MAX = 1 << 20  # elements of an input that is made up and kept; a larger one is a view of one value

# How far apart two answers to one row may lie, as a share of the largest value that the probe saw in that place.
# Kernels sum in another order for another batch size: a unit in the last place each step, tens over a deep model.
# An answer that really depends on its neighbours is off by much more: one step of an INT8 scale is a 256th.
TOLERANCES = {"FP16": 1e-2, "FP32": 1e-4, "FP64": 1e-9}
FLOOR_SHARE = 1e-2  # of the tolerance, against the largest value of the output: for places that are 0 but for rounding


class BatchProfile(msgspec.Struct):
    """What the probe has found.

    `knee`: rows of a batch beyond which there is little to gain; 1 for a model that runs alone. `canary`: inputs of one
    row that have run (or should have, if not `probed`). `timings_s`: seconds of one call by its rows.
    """

    batched: bool
    probed: bool
    reason: str
    knee: int
    knee_source: str  # probe, cache, measured or alone
    canary: Tensors
    timings_s: dict[int, float] = msgspec.field(default_factory=dict)


def probe(session: Session, example: Tensors | None, limits: ModelLimits, cached_knee: int | None) -> BatchProfile:
    """Warm the session up and find out whether it batches. Never raises for what the model does.

    `example`: rows on axis 0, of any number. Runs 14 rows (22 if they are quick), 10 where the knee is cached.
    """
    axis = session.signature.batch_axis()
    try:
        canary = _first_that_runs(session, example)
    except Exception as error:  # noqa: BLE001 - a session raises anything; a probe that fails proves nothing
        reason = f"runs alone, not probed: {_cause(error)}"
        return BatchProfile(False, False, reason, 1, "alone", example_inputs(session.signature, example))
    if axis is None:
        return BatchProfile(False, True, f"runs alone: {_why_no_axis(session.signature)}", 1, "alone", canary)
    timings_s: dict[int, float] = {}
    batch_rows = CACHED_PROBE_ROWS if cached_knee is not None else max(2, min(PROBE_ROWS, limits.batch_rows_max))
    try:
        rows = _rows_alone(session, canary, example, timings_s)
        difference = _difference(session, rows, batch_rows, timings_s)
    except Exception as error:  # noqa: BLE001 - the canary ran alone, so it is the batch that fails
        difference = f"a batch fails: {_cause(error)}"
    if difference:
        return BatchProfile(False, True, f"runs alone: {difference}", 1, "alone", canary, timings_s)
    knee, source = (cached_knee, "cache") if cached_knee is not None else (batch_rows, "probe")
    if source == "probe" and not _gains(timings_s, batch_rows):
        knee = 1
    reason = f"batches on axis {axis!r}: rows answer together as they do alone"
    return BatchProfile(True, True, reason, min(knee, limits.batch_rows_max), source, canary, timings_s)


def example_inputs(signature: Signature, example: Tensors | None, open_size: int = 1) -> Tensors:
    """Inputs of one row that fit the signature: the example's first row, or made up, unknown sizes as `open_size`.

    Without a batch axis an example is taken whole. One that does not fit is left aside. A large input that is made up
    is a view of one value, not to be written to.
    """
    if example is not None:
        try:
            return _first_row(signature, example)
        except (InvalidTensor, TypeError, ValueError) as error:
            log.debug("inputs are made up in place of the example: %s", error)
    return {spec.name: _made_up(spec, signature.batch_axis(), open_size) for spec in signature.inputs}


# ---- inputs ----------------------------------------------------------------------------------------------------------


def _first_that_runs(session: Session, example: Tensors | None) -> Tensors:
    signature = session.signature
    if example is not None:
        inputs = _first_row(signature, example)
        session.run(inputs)
        return inputs
    *first_sizes, last_size = OPEN_SIZES
    for open_size in first_sizes:
        inputs = example_inputs(signature, None, open_size)
        try:
            session.run(inputs)
        except Exception as error:  # noqa: BLE001 - a session raises anything; the next size may be right
            log.debug("a row with unknown sizes as %d does not run: %s", open_size, error)
        else:
            return inputs
    inputs = example_inputs(signature, None, last_size)
    session.run(inputs)
    return inputs


def _first_row(signature: Signature, example: Tensors) -> Tensors:
    """Raises InvalidTensor, TypeError or ValueError if the example is none for this model."""
    inputs = _fitted(signature, example)
    if signature.batch_axis() is not None:
        inputs = {name: array[:1] for name, array in inputs.items()}
    signature.check("", inputs)
    return inputs


def _fitted(signature: Signature, example: Tensors) -> Tensors:
    """The example in the dtypes of the signature, whatever numpy made of its numbers."""
    dtypes = {spec.name: DTYPES[spec.datatype] for spec in signature.inputs}
    return {
        name: np.ascontiguousarray(array, dtypes.get(name, array.dtype)).reshape(array.shape)
        for name, array in example.items()
    }


def _made_up(spec: TensorSpec, batch_axis: str | None, open_size: int) -> Array:
    shape = [dim if isinstance(dim, int) else 1 if dim == batch_axis else open_size for dim in spec.shape]
    one = np.full((), "1" if spec.datatype == "BYTES" else 1, DTYPES[spec.datatype])
    inputs = np.broadcast_to(one, shape)
    return np.array(inputs) if element_count(shape) <= FILLED_SIZE_MAX else inputs


@dataclass(frozen=True)
class _Row:
    """Inputs of one row and what they give alone."""

    inputs: Tensors
    outputs: Tensors


def _rows_alone(session: Session, canary: Tensors, example: Tensors | None, timings_s: dict[int, float]) -> list[_Row]:
    """Up to three rows that differ: the canary, another of the example, and variants of the canary that run.

    Rows of unlike range show a scale that is taken over the batch, which like rows would hide.
    """
    rows = [_Row(canary, _timed(session, canary, 1, timings_s))]
    for inputs in (*_other_example(session.signature, canary, example), *_variants(canary)):
        if len(rows) == PROBE_ROWS_ALONE or all(np.array_equal(inputs[name], canary[name]) for name in canary):
            continue
        try:
            rows.append(_Row(inputs, _timed(session, inputs, 1, timings_s)))
        except Exception as error:  # noqa: BLE001 - a row of our own making may be none that the model takes
            log.debug("a row that was made up for the probe does not run: %s", error)
    return rows


def _other_example(signature: Signature, canary: Tensors, example: Tensors | None) -> Iterator[Tensors]:
    """The last row of the example that is not like its first."""
    fitted = _fitted(signature, example) if example is not None else {}
    for index in range(min(map(len, fitted.values()), default=0) - 1, 0, -1):
        row = {name: array[index : index + 1] for name, array in fitted.items()}
        if any(not np.array_equal(row[name], canary[name]) for name in row):
            yield row
            return


def _variants(canary: Tensors) -> Iterator[Tensors]:
    yield {name: _halved(array) for name, array in canary.items()}
    if any(array.dtype.kind == "f" for array in canary.values()):
        yield {name: _ramp(array) for name, array in canary.items()}


def _halved(array: Array) -> Array:
    """Half of each number (an index stays an index), the other truth, another text."""
    match array.dtype.kind:
        case "f":
            return array * array.dtype.type(0.5)
        case "b":
            return ~array
        case "O":
            return np.full(array.shape, "0", np.object_)
        case _:
            return array // 2


def _ramp(array: Array) -> Array:
    """Floats from -1 to 1 times the largest; other types as they are."""
    if array.dtype.kind != "f":
        return array
    largest = np.abs(array).max(initial=0.0)
    return (np.linspace(-1.0, 1.0, array.size) * largest).reshape(array.shape).astype(array.dtype)


# ---- what it shows ---------------------------------------------------------------------------------------------------


def _difference(session: Session, rows: Sequence[_Row], batch_rows: int, timings_s: dict[int, float]) -> str:
    """How a batch answers other than its rows alone, or "" if it does not. Times a call of `batch_rows`.

    The large batch puts every row at several places beside other neighbours, the small one turns their order round.
    """
    count = len(rows)
    if count == 1:
        return (
            "there are no two different rows that run, so a batch shows nothing; an example.npz of several rows would"
        )
    orders = ([(place + place // count) % count for place in range(batch_rows)], [count - 1, 0])
    for order in orders:
        batch = {name: np.concatenate([rows[index].inputs[name] for index in order]) for name in rows[0].inputs}
        together = _timed(session, batch, len(order), timings_s)
        if len(order) == batch_rows and not _gains(timings_s, batch_rows) and timings_s[batch_rows] < BRIEF_S:
            _timed(session, batch, batch_rows, timings_s)
        for spec in session.signature.outputs:
            problem = _answers_apart(spec, [rows[index].outputs[spec.name] for index in order], together[spec.name])
            if problem:
                return problem
    return ""


def _gains(timings_s: dict[int, float], rows: int) -> bool:
    return timings_s[rows] < ALONE_RATIO / PROBE_ROWS * rows * timings_s[1]


def _timed(session: Session, inputs: Tensors, rows: int, timings_s: dict[int, float]) -> Tensors:
    started_s = time.perf_counter()
    outputs = session.run(inputs)
    run_s = time.perf_counter() - started_s
    timings_s[rows] = min(run_s, timings_s.get(rows, run_s))
    return outputs


def _answers_apart(spec: TensorSpec, alone: Sequence[Array], together: Array) -> str:
    rows = len(alone)
    if any(array.ndim == 0 or array.shape[0] != 1 for array in alone):
        return f"output {spec.name!r} has shape {list(alone[0].shape)} for one row"
    if together.ndim == 0 or together.shape[0] != rows:
        return f"output {spec.name!r} has shape {list(together.shape)} for {rows} rows"
    if any(array.shape[1:] != together.shape[1:] for array in alone):
        return f"output {spec.name!r} has another shape in a batch"
    wanted = np.concatenate(alone)
    if together.dtype.kind != "f":
        return "" if np.array_equal(wanted, together) else f"output {spec.name!r} of a row depends on its batch"
    return _floats_apart(spec, wanted, together)


def _floats_apart(spec: TensorSpec, wanted: Array, together: Array) -> str:
    finite = np.isfinite(wanted)
    same_elsewhere = np.array_equal(wanted[~finite], together[~finite], equal_nan=True)
    if not same_elsewhere or not np.isfinite(together[finite]).all():
        return f"output {spec.name!r} of a row is NaN or infinite in one batch and another value in another"
    exact, given = (np.where(finite, array, 0).astype(np.float64) for array in (wanted, together))
    tolerance = TOLERANCES[spec.datatype]
    largest = np.abs(exact).max(axis=0, keepdims=True)
    allowed = tolerance * np.maximum(largest, FLOOR_SHARE * largest.max(initial=0.0))
    excess = np.abs(exact - given) - allowed
    if (excess <= 0).all():
        return ""
    worst = np.unravel_index(excess.argmax(), excess.shape)
    return f"output {spec.name!r} of a row depends on its batch ({exact[worst]:.6g} alone, {given[worst]:.6g} in it)"


def _why_no_axis(signature: Signature) -> str:
    """Which declared shape rules batching out."""
    tensors = [*(("input", s) for s in signature.inputs), *(("output", s) for s in signature.outputs)]
    first: str | None = None
    for role, spec in tensors:
        name = spec.shape[0] if spec.shape else None
        if not isinstance(name, str):
            return f"{role} {spec.name!r} has no named batch axis on axis 0 (shape {list(spec.shape)})"
        first = first or name
        if name != first:
            return f"{role} {spec.name!r} has {name!r} on axis 0 where another tensor has {first!r}"
        if first in spec.shape[1:]:
            return f"{role} {spec.name!r} has {first!r} on another axis than 0 as well (shape {list(spec.shape)})"
    return "it has no inputs"


def _cause(error: Exception) -> str:
    if isinstance(error, InvalidTensor):
        return "its example does not fit: " + "; ".join(map(str, error.details))
    return cause_of(error)
