"""The errors of jobs: what a dataset, an output or a ledger can be wrong with, and which job is meant.

StartError                      nothing was begun; everything that has to be mended is listed at once
├── SourceInvalid               the dataset cannot be read as the model needs it
├── OutputInvalid               the output cannot be written where or as it is asked for
├── JobDiffers                  the output belongs to a job with other inputs, model or settings
├── LedgerInvalid               the database cannot be the ledger of jobs
└── ExtraMissing                a library that only jobs need is not installed
CallerError
├── JobNotFound
 ├── ScheduleNotFound
 ├── JobConflict                 the job is in a state that rules this out
 └── RowsUnordered               rows of a line do not follow the order of their time
InferenceError
├── InputChanged                an input is not the one that the job was planned on
└── JobFailed                   a job ended without its output, for the reason that is told
Unavailable                     what was committed stays; the job waits, or can be resumed
├── LedgerUnavailable
├── StoreUnavailable
└── StoreFull
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.errors import CallerError, InferenceError, NotFound, Unavailable
from inference.fault import Fault, one_of, quoted
from inference.start_errors import StartError


class SourceInvalid(StartError):
    """The dataset, with everything that is wrong with it, before any row was predicted."""

    reason = "source_invalid"

    def __init__(self, dataset: str, problems: Sequence[str]) -> None:
        super().__init__(f"The dataset {dataset} cannot be used:", problems)


class OutputInvalid(StartError):
    """The output, with everything that is wrong with it, before any row was predicted."""

    reason = "output_invalid"

    def __init__(self, output: str, problems: Sequence[str]) -> None:
        super().__init__(f"The output {output} cannot be used:", problems)


class JobDiffers(StartError):
    """The output belongs to another job."""

    reason = "job_differs"

    def __init__(self, output: str, job_id: str, differences: Sequence[Fault]) -> None:
        sentences = [f"{fault.field}: now {fault.given}, then {fault.accepted}" for fault in differences]
        super().__init__(
            f"The output {output} belongs to {job_id}, which differs in the following. Take the values of then, name "
            "another output, or start over with --restart:",
            sentences,
        )
        self.details = tuple(differences)  # the base class has set none


class LedgerInvalid(StartError):
    """The database cannot be the ledger of jobs."""

    reason = "ledger_invalid"

    def __init__(self, ledger: str, problems: Sequence[str]) -> None:
        super().__init__(f"The ledger {ledger} cannot be used:", problems)


class ExtraMissing(StartError):
    """A library is not installed."""

    reason = "extra_missing"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs libraries that are not installed: pip install 'glassai-inference[{extra}]'.")


class JobNotFound(NotFound):
    """No job of this id is in the ledger."""

    reason = "job_not_found"

    def __init__(self, job_id: str) -> None:
        fault = Fault("job_id", quoted(job_id), "the id of a job that has not been deleted")
        super().__init__(f"No job {quoted(job_id)} is known.", [fault])


class ScheduleNotFound(NotFound):
    """No schedule of this name is in the ledger."""

    reason = "schedule_not_found"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"No schedule {quoted(name)} is known.", [Fault("schedule", quoted(name), one_of(known))])


class JobConflict(CallerError):
    """The job is in a state that rules this out."""

    reason = "job_conflict"

    def __init__(self, job_id: str, action: str, status: str, instead: str) -> None:
        super().__init__(f"Job {job_id} cannot be {action}: it is {status}. {instead}")


class RowsUnordered(CallerError):
    """A row is older than a row of its line before it, and the job was told to refuse that."""

    reason = "rows_unordered"

    def __init__(self, row: int, stream_id: str, timestamp: str, newest: str) -> None:
        fault = Fault(f"row {row}", timestamp, f"{newest} or later")
        super().__init__(
            f"Row {row} of the dataset, at {timestamp}, is older than a row of line {quoted(stream_id)} before it, at "
            f"{newest}. Sort the rows of each line by their time, or take --unordered live, which judges a late row "
            "as a server does.",
            [fault],
        )


class InputChanged(InferenceError):
    """An input is not the one that the job was planned on."""

    reason = "input_changed"

    def __init__(self, path: str, now: str, then: str) -> None:
        fault = Fault(path, now, then)
        super().__init__(
            f"The input {path} has changed since the job was planned: now {now}, then {then}. Nothing that was "
            "committed is lost. Bring the file back and resume, or start over with --restart.",
            [fault],
        )


class JobFailed(InferenceError):
    """A job ended without its output; `reason` of the job says why."""

    reason = "job_failed"

    def __init__(self, job_id: str, sentence: str) -> None:
        super().__init__(f"Job {job_id} failed: {sentence}")


class LedgerUnavailable(Unavailable):
    """The database does not answer."""

    reason = "ledger_unavailable"

    def __init__(self, cause: str) -> None:
        super().__init__(f"The ledger of jobs does not answer: {cause[:300]}. Jobs wait and go on once it does.")


class StoreUnavailable(Unavailable):
    """What the inputs or outputs lie in does not answer, or may not be read or written."""

    reason = "store_unavailable"

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name} cannot be reached: {cause[:300]}. What was committed stays; resume the job later.")


class StoreFull(Unavailable):
    """No room is left for the output."""

    reason = "store_full"

    def __init__(self, name: str) -> None:
        super().__init__(f"No room is left for {name}. What was committed stays; make room, then resume the job.")
