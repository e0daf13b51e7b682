"""The part of a job that is done or redone as a whole: its range, who works at it, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

ShardKind = Literal["plan", "rows", "finish"]
ShardState = Literal["waiting", "ready", "claimed", "done", "failed"]
FailureKind = Literal["retry", "wait", "end"]

PLAN_NUMBER = -1  # the shard that plans the others; those that hold rows count from 0, the last one finishes the output
CONFIDENCE_BINS = 50  # of equal width over 0 to 1


class Owner(msgspec.Struct, frozen=True):
    """A process that holds leases; on its own machine anybody can see whether it lives.

    `started`: the process's start time as /proc tells it, so that a pid that was used again is not taken for it.
    """

    host: str
    boot_id: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.host}/{self.boot_id}/{self.pid}/{self.started}"

    @classmethod
    def read(cls, text: str) -> Owner:
        """The owner that `str` wrote."""
        host, boot_id, pid, started = text.rsplit("/", 3)
        return cls(host, boot_id, int(pid), started)


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of one input, in units of its source: rows of a table, bytes of a text, places in a listing."""

    input: int  # its place among the inputs
    start: int
    stop: int


class ShardRange(msgspec.Struct, frozen=True, array_like=True):
    """Which rows a shard has: those of its pieces, in order. `rows` is None where they have not been counted."""

    number: int
    first_row: int  # its place in the whole dataset
    rows: int | None
    pieces: tuple[Piece, ...]


class RowFault(msgspec.Struct, frozen=True, array_like=True):
    """A row that gets no prediction. `row` counts in whatever carries the fault, from 0."""

    row: int
    reason: str
    sentence: str


class Part(msgspec.Struct, frozen=True):
    """A file that was written whole. `name` is its name in the store, without a run time, a job id or a host."""

    name: str
    rows: int
    bytes: int
    sha256: str


class StageSeconds(msgspec.Struct, frozen=True):
    """Seconds of work by stage; the stages overlap, so their sum is no wall time."""

    read: float = 0.0
    decode: float = 0.0
    predict: float = 0.0
    write: float = 0.0
    sync: float = 0.0  # of the writing: fsync and rename
    ledger: float = 0.0


class BatchSample(msgspec.Struct, frozen=True, array_like=True):
    """Runs of one batch size: how many, the seconds of all, and the squares of the seconds summed."""

    rows: int
    runs: int
    seconds: float
    squares: float


class Tally(msgspec.Struct, frozen=True):
    """What a shard's rows came to. `labels`: rows by decision or class; `confidence`: rows by bin, CONFIDENCE_BINS."""

    rows_in: int
    rows_failed: int = 0
    failed_by_reason: dict[str, int] = {}
    labels: dict[str, int] = {}
    confidence: tuple[int, ...] = ()


class ShardOutcome(msgspec.Struct, frozen=True):
    """What an attempt gave that did all of its shard. `errors`: the dead letters, one JSON line for each failed row."""

    tally: Tally
    part: Part | None = None
    errors: Part | None = None
    stages: StageSeconds = StageSeconds()
    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0
    batches: tuple[BatchSample, ...] = ()


class ShardFailure(msgspec.Struct, frozen=True):
    """What ended an attempt.

    `kind`: "retry" counts against the shard; "wait" is nobody's fault (store full, object store gone) and is tried
    again later; "end" would fail again in the same way (a changed input), so the job fails.
    """

    kind: FailureKind
    reason: str
    sentence: str


class Claim(msgspec.Struct, frozen=True):
    """A shard that an owner may work at until its lease ends. Only the newest `attempt` can be completed.

    `careful`: earlier attempts took their process with them, so the model runs in a process of its own.
    """

    job_id: str
    number: int
    kind: ShardKind
    attempt: int
    careful: bool = False
    range: ShardRange | None = None  # of a shard that holds rows


class Shard(msgspec.Struct, frozen=True):
    """A shard as the ledger knows it.

    `lost`: attempts whose owner died or let the lease end; `failures`: the other ones that gave nothing.
    """

    job_id: str
    number: int
    kind: ShardKind
    state: ShardState
    attempt: int = 0
    lost: int = 0
    failures: int = 0
    owner: Owner | None = None
    lease_until_us: int = 0
    ready_us: int = 0  # not claimed before
    range: ShardRange | None = None
    outcome: ShardOutcome | None = None
    failure: ShardFailure | None = None  # the last one
