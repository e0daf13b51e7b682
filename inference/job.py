"""One offline prediction over a dataset: what it is asked to do, what makes it the same job, and where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inference.fault import Fault, quoted
from inference.request import LIVE_PRIORITIES, Priority

FACTS_FORMAT = 1  # raised when the same facts would give other output rows
SHARD_ROWS = 262_144  # 5 s of the bundled sensor model on one core; a killed worker redoes one shard at most
INPUT_FILES_MAX = 100_000  # a folder of pictures counts as one; 10 MB of facts
HISTORY_MAX = 1_000  # resumes, retries, pauses that a job remembers; the oldest go first

DatasetFormat = Literal["parquet", "csv", "jsonl", "ipc", "images", "urls"]
OutputFormat = Literal["parquet", "csv", "jsonl"]
JobStatus = Literal["queued", "running", "paused", "completed", "completed_with_errors", "failed", "cancelled"]
Wanted = Literal["run", "pause", "cancel"]

# `failed` and `cancelled` can be resumed; nothing changes a completed job any more.
COMPLETED: frozenset[JobStatus] = frozenset({"completed", "completed_with_errors"})
ENDED: frozenset[JobStatus] = frozenset({*COMPLETED, "failed", "cancelled"})


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files, folders or URLs that are read one after the other, in this order.

    `columns`: the dataset's name of a column by the model's name of it, where they differ.
    """

    paths: Annotated[tuple[str, ...], Meta(min_length=1)]
    format: DatasetFormat
    columns: dict[str, str] = {}


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the rows go: one file, or a folder of parts (`single` is false), on a disk or at an object store's URL."""

    path: str
    format: OutputFormat = "parquet"
    single: bool = True


class RowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings that say which rows come out and what is in them; another value makes another job.

    `keep`: columns beside the prediction; None takes those of row_id, stream_id and timestamp that are there.
    `unordered`: rows of a line that are not in the order of their time refuse the dataset, or follow the live rule.
    """

    keep: tuple[str, ...] | None = None
    unordered: Literal["refuse", "live"] = "refuse"
    shard_rows: Annotated[int, Meta(ge=1)] = SHARD_ROWS
    image_bytes_max: Annotated[int, Meta(ge=1)] = 16 * 1024 * 1024
    image_pixels_max: Annotated[int, Meta(ge=1)] = 25_000_000


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that change how the job runs and not what it gives; a resume may bring others.

    `priority` orders jobs among each other, from critical to low. `batch_rows`: None searches for the best.
    `deadline_us`: since 1970; earlier ones go first among equals. Raises ValueError for any other priority.
    """

    priority: Priority = Priority.NORMAL
    batch_rows: Annotated[int, Meta(ge=1)] | None = None
    max_error_rate: Annotated[float, Meta(ge=0, le=1)] = 0.01
    deadline_us: int | None = None
    accept_changed_inputs: bool = False

    def __post_init__(self) -> None:
        if self.priority not in LIVE_PRIORITIES:
            raise ValueError(f"priority: given {self.priority.name.lower()}, accepted critical, high, normal or low")


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a job is asked to do. `model_version`: None takes the newest when the job is created."""

    model_name: str
    dataset: Dataset
    output: Output
    model_version: int | None = None
    rows: RowSettings = RowSettings()
    run: RunSettings = RunSettings()


class InputFile(msgspec.Struct, frozen=True):
    """One input with its size and what it is recognised by.

    `fingerprint` is "sha256:..." of a table, "listing:..." of a folder of pictures (sha256 over their paths, sizes and
    modification times), "etag:..." of an object.
    """

    path: str
    bytes: int
    fingerprint: str


class JobFacts(msgspec.Struct, frozen=True):
    """Everything that the rows of the output depend on."""

    model: str  # name/version
    model_sha256: str
    inputs: tuple[InputFile, ...]
    dataset: Dataset
    output: Output
    rows: RowSettings

    @property
    def identity(self) -> str:
        """64 hexadecimal digits that are equal for the same job and for no other."""
        content = msgspec.json.encode([FACTS_FORMAT, self], order="deterministic")
        return hashlib.sha256(content).hexdigest()

    def differences(self, then: JobFacts) -> list[Fault]:
        """What differs from the facts of another job: the value now as given, the one of then as accepted."""
        faults = [_fault(name, getattr(self, name), getattr(then, name)) for name in ("model", "model_sha256")]
        for section in ("dataset", "output", "rows"):
            now, was = getattr(self, section), getattr(then, section)
            names = now.__struct_fields__
            faults += [_fault(f"{section}.{name}", getattr(now, name), getattr(was, name)) for name in names]
        return [*(fault for fault in faults if fault is not None), *_input_differences(self.inputs, then.inputs)]


def _fault(field: str, now: object, then: object) -> Fault | None:
    return None if now == then else Fault(field, quoted(now), quoted(then))


def _input_differences(now: tuple[InputFile, ...], then: tuple[InputFile, ...]) -> list[Fault]:
    """The first input that differs, and how many do."""
    if now == then:
        return []
    was, here = {item.path: item for item in then}, {item.path: item for item in now}
    changed = [path for path in dict.fromkeys([*was, *here]) if was.get(path) != here.get(path)]
    if not changed:
        return [Fault("input", "another order of the inputs", "the order of then")]
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    path = changed[0]
    return [Fault(f"input {quoted(path)}{more}", _shown(here.get(path)), _shown(was.get(path)))]


def _shown(item: InputFile | None) -> str:
    return "not there" if item is None else f"{item.bytes} bytes, {item.fingerprint[:23]}"


class JobCounts(msgspec.Struct, frozen=True):
    """How far a job is. `rows_total` is None until the job is planned, and for inputs whose rows nobody can count."""

    shards: int = 0  # those that hold rows and the one that finishes; 0 until the job is planned
    shards_done: int = 0
    rows_total: int | None = None
    rows_done: int = 0  # with the failed ones
    rows_failed: int = 0
    failed_by_reason: Mapping[str, int] = {}


class HistoryEntry(msgspec.Struct, frozen=True):
    """Something that happened to a job: created, planned, waiting, resumed, paused, retried, owner_lost, ended."""

    at_us: int
    event: str
    detail: str = ""


class Job(msgspec.Struct, frozen=True):
    """A job as the ledger knows it. Times are microseconds since 1970 by the ledger's clock.

    `reason` is the stable code of what ended it or makes it wait, `sentence` says it to people.
    """

    id: str
    identity: str
    model: str  # name/version
    model_sha256: str
    spec: JobSpec
    status: JobStatus
    wanted: Wanted
    counts: JobCounts
    created_us: int
    started_us: int | None = None
    ended_us: int | None = None
    reason: str = ""
    sentence: str = ""
    schedule: str = ""  # the name of the schedule that created it
    history: tuple[HistoryEntry, ...] = ()
