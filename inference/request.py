"""A caller's request for one model, and what comes of it.

Structs of msgspec, since one is made for each request and each costs a fifth of a dataclass.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum

import msgspec

from inference.errors import InferenceError
from inference.model import ModelKey
from inference.tensor import Tensors


class Priority(IntEnum):
    """The band that a request waits in; the numbers are those of the Open Inference Protocol's `priority`.

    BACKGROUND is for the rows of jobs: no caller can name it, and nothing that waits in it is ever raised.
    """

    CRITICAL = 1
    HIGH = 2
    NORMAL = 3
    LOW = 4
    BACKGROUND = 5


LIVE_PRIORITIES = (Priority.CRITICAL, Priority.HIGH, Priority.NORMAL, Priority.LOW)


class Request(msgspec.Struct, eq=False):
    """One caller's inputs for one model, checked against its signature.

    `rows` is the size of axis 0 for a model that batches, else 1. Only requests with equal `group` share a Batch: it
    holds the shapes without axis 0 and the parameters. `deadline_s` is a time of the engine's clock.
    """

    id: str
    model: ModelKey
    inputs: Tensors
    rows: int
    byte_count: int
    group: Hashable
    deadline_s: float
    arrived_s: float
    priority: Priority = Priority.NORMAL


class Timings(msgspec.Struct, frozen=True):
    """Where the time of a request went, in seconds, and how many rows shared its last batch."""

    queue_s: float
    run_s: float
    batch_rows: int


class Prediction(msgspec.Struct, eq=False):
    """The answer to one Request: outputs with its rows on axis 0, or as the model shapes them if it runs alone."""

    id: str
    model: ModelKey
    outputs: Tensors
    timings: Timings
    non_finite: tuple[str, ...] = ()  # outputs that hold NaN or infinity


Answer = Prediction | InferenceError


class Slice(msgspec.Struct, frozen=True, eq=False):
    """Rows `start` to `stop` of one Request; a request at most the knee is one slice."""

    request: Request
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Rows in this slice."""
        return self.stop - self.start


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Slices of one ModelVersion that run together in one session call."""

    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """Rows of all slices, counted anew at each call."""
        return sum([part.stop - part.start for part in self.slices])
