"""The contract of a ledger: which jobs and shards there are, who works at what, what is done (docs/batch.md).

Every method is one short transaction, may be called from any thread but an event loop's, and raises LedgerUnavailable.
What became of a shard is decided by `decisions/job_progress.py`, the same in every ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from inference.errors import InvalidValues
from inference.fault import Fault, quoted
from inference.job import Job, JobSpec, JobStatus, RunSettings, Wanted
from inference.request import Priority
from inference.shard import Claim, Owner, Shard, ShardFailure, ShardOutcome, ShardRange


class NewJob(msgspec.Struct, frozen=True):
    """A job to be put into the ledger; its only shard is the one that plans the others."""

    id: str
    identity: str  # "" for one that nobody will ask for again
    model: str
    model_sha256: str
    spec: JobSpec
    schedule: str = ""
    fire_us: int | None = None  # with `schedule`: no second job is made for the same time


class JobQuery(msgspec.Struct, frozen=True):
    """Which jobs, newest first; `after` is the `next` of the page before.

    Newer is what was created later, and at the same time what has the greater id. Created from and to are the first
    time that is meant and the first one that no longer is.
    """

    statuses: tuple[JobStatus, ...] = ()
    model_name: str | None = None
    priority: Priority | None = None
    schedule: str | None = None
    created_from_us: int | None = None
    created_to_us: int | None = None
    after: str | None = None
    count: int = 100


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, and what asks for those behind them; None if there are no more."""

    jobs: tuple[Job, ...]
    next: str | None = None


def page_mark(job: Job) -> str:
    """The `next` of a page that ends with this job."""
    return f"{job.created_us}.{job.id}"


def read_page_mark(mark: str) -> tuple[int, str]:
    """Time of creation and id of the job that `page_mark` was made of. Raises InvalidValues."""
    created_us, dot, job_id = mark.partition(".")
    if not (dot and job_id and created_us.isascii() and created_us.isdigit() and len(created_us) <= 18):
        raise InvalidValues([Fault("after", quoted(mark), "the `next` of the page before")])
    return int(created_us), job_id


class Renewal(msgspec.Struct, frozen=True):
    """What an owner still holds, as (job id, shard number), and what is wanted of its jobs."""

    held: frozenset[tuple[str, int]]
    wanted: Mapping[str, Wanted]


class Ledger(Protocol):
    """Jobs and shards. A claim that is no longer the newest changes nothing, and its method returns False."""

    def now_us(self) -> int:
        """Microseconds since 1970 by the ledger's own clock, which leases are measured by."""
        ...

    def create(self, job: NewJob) -> Job | None:
        """Put a job in. None if its schedule has fired for that time already.

        Without a schedule, and with an identity: the newest job of the same one in its place, unless that is completed,
        so that two commands started at once make one job. Who gets another id than his own resumes it.
        """
        ...

    def job(self, job_id: str) -> Job:
        """Where a job stands. Raises JobNotFound."""
        ...

    def find(self, identity: str) -> Job | None:
        """The newest job of this identity; None for ""."""
        ...

    def jobs(self, query: JobQuery) -> JobPage:
        """A page of jobs. Raises InvalidValues for an `after` that no page had."""
        ...

    def shards(self, job_id: str, first: int, count: int) -> list[Shard]:
        """Shards by number from `first` on. Raises JobNotFound."""
        ...

    def claim(
        self, owner: Owner, count: int, lease_us: int, job_id: str | None = None, dead: Collection[Owner] = ()
    ) -> list[Claim]:
        """Up to `count` shards of one job, the lowest numbers of the one whose turn it is; of `job_id` alone if named.

        Leases of `dead` owners are free at once. A shard that was lost too often fails its job, and another one is
        looked for.
        """
        ...

    def renew(self, owner: Owner, lease_us: int) -> Renewal:
        """Keep everything that this owner holds, in one statement. What a job held that ended is no longer held."""
        ...

    def owners(self) -> list[Owner]:
        """Who holds leases, so that one may look which of them live."""
        ...

    def complete_plan(self, claim: Claim, shards: Sequence[ShardRange], rows_total: int | None) -> bool:
        """The shards that hold rows, and behind them one that finishes, take the place of the plan."""
        ...

    def complete(self, claim: Claim, outcome: ShardOutcome) -> bool:
        """The shard is done; it may have been the last one, or one failed row too many."""
        ...

    def fail(self, claim: Claim, failure: ShardFailure) -> bool:
        """The attempt failed; whether the shard is tried again is decided here.

        With a failure of kind "wait" no shard of the job that is ready is claimed before this one may be.
        """
        ...

    def release(self, claim: Claim) -> bool:
        """Give a shard back untouched, as if it had not been claimed; the number of its attempt is not used again."""
        ...

    def want(self, job_id: str, wanted: Wanted, run: RunSettings | None = None) -> Job:
        """Run (or resume), pause or cancel, with other run settings if given. Raises JobNotFound, JobConflict."""
        ...

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended. Raises JobNotFound, JobConflict."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
