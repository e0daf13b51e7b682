"""What goes into a pipeline and what comes out of its first half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from inference.errors import InvalidValues
from inference.fault import Fault
from inference.tensor import Tensors


@dataclass(slots=True)
class Sample:
    """What a caller sends for one prediction: named fields, or the bytes of an image file.

    `arrival_us` is the wall clock in microseconds since 1970 (the time of a row that brings none), `now_s` a clock that
    never goes back (how long a line has been idle).
    """

    fields: Mapping[str, object]
    image_file: bytes | None = None
    stream_id: str | None = None
    arrival_us: int = 0
    now_s: float = 0.0


@dataclass(slots=True)
class Prepared:
    """Tensors of one prediction, axis 0 has one row, and what is known about how good they are."""

    tensors: Tensors
    real_rows: int = 1  # rows of the window that are known; the others repeat the first one
    input_quality: float = 1.0  # share of the sensor values that were measured


class InputSide(Protocol):
    """Turns what callers have into the tensors of one model. Every method raises CallerError.

    `blocking`: `prepare` takes milliseconds and may run in any thread, so a loop calls it in one.
    """

    blocking: bool

    def prepare(self, sample: Sample) -> Prepared:
        """The tensors of a sample that came over a wire."""
        ...

    def prepare_one(self, given: object) -> Prepared:
        """The tensors of one input that this process holds."""
        ...

    def prepare_many(self, given: object) -> Tensors:
        """The tensors of n inputs that this process holds, n on axis 0."""
        ...


def wrong_input(given: object, accepted: str) -> InvalidValues:
    """The error for an in-process input of another kind than the model takes."""
    return InvalidValues([Fault("input", f"of type {type(given).__name__}", accepted)])
