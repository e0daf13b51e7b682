"""What has to be true of jobs and their shards after every event, by a book that is kept beside the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from inference.decisions.job_order import TurnPolicy, turn
from inference.job import COMPLETED, ENDED, Job
from inference.ledger.ledger import Ledger
from inference.shard import Claim, Owner, Shard, ShardOutcome

Key = tuple[str, int]  # job and shard
SECOND_US = 1_000_000
RETRY_US = (1 * SECOND_US, 5 * SECOND_US, 25 * SECOND_US)
LOSSES_MAX = 8


@dataclass
class Hold:
    """Who has a shard."""

    owner: Owner
    attempt: int
    until_us: int


@dataclass
class Book:
    """One job as those who work at it saw it."""

    rows: Sequence[tuple[str, ...]]  # of each shard
    counted: bool  # whether the source says how many rows a shard has
    is_planned: bool = False
    finish_done: bool = False
    done: dict[int, ShardOutcome] = field(default_factory=dict)
    errors: Counter[int] = field(default_factory=Counter)  # by shard, since the last resume
    losses: Counter[int] = field(default_factory=Counter)
    not_before_us: dict[int, int] = field(default_factory=dict)

    @property
    def finish(self) -> int:
        """The number of the shard that finishes."""
        return len(self.rows)


class JobOracle:
    """Told of every call and its answer; it says which promise is broken."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.books: dict[str, Book] = {}
        self.holds: dict[Key, Hold] = {}
        self.attempts: dict[Key, int] = {}

    # ---- calls -------------------------------------------------------------------------------------------------------

    def expected(self, job: Job, count: int, dead: Collection[Owner]) -> list[int]:
        """Which shards of a job a claim has to give, and no others, if it is this job's turn."""
        book, now_us = self.books[job.id], self.ledger.now_us()
        found = []
        for shard in self.ledger.shards(job.id, -1, 10_000):
            hold = self.holds.get((job.id, shard.number))
            if hold is not None:
                free = hold.until_us <= now_us or hold.owner in dead
            else:
                free = shard.state == "ready" and now_us >= book.not_before_us.get(shard.number, 0)
            if free:
                found.append(shard.number)
        return found[:count] if job.status in ("queued", "running") else []

    def claimed(
        self, claims: Sequence[Claim], before: Iterable[tuple[Job, list[int]]], owner: Owner, lease_us: int
    ) -> None:
        """A claim was answered; `before` are the jobs as they were, with what they had to give."""
        now_us = self.ledger.now_us()
        assert len({claim.job_id for claim in claims}) <= 1, "one claim gave shards of two jobs"
        served = claims[0].job_id if claims else None
        for job, numbers in sorted(before, key=lambda pair: turn(pair[0], now_us, TurnPolicy())):
            if job.id == served:
                given = [claim.number for claim in claims]
                assert given == numbers, f"{job.id} is {job.status} and gave the shards {given}, not {numbers}"
                break
            if numbers:
                self._fails_of_losses(job, numbers)
        for claim in claims:
            self._take(claim, Hold(owner, claim.attempt, now_us + lease_us))

    def _take(self, claim: Claim, hold: Hold) -> None:
        key = (claim.job_id, claim.number)
        assert claim.attempt > self.attempts.get(key, 0), f"attempt {claim.attempt} at {key} was given twice"
        book = self.books[claim.job_id]
        assert claim.number not in book.done, f"{key} is done, and was claimed"
        book.losses[claim.number] += key in self.holds
        losses = book.losses[claim.number]
        assert losses < LOSSES_MAX, f"{key} was lost {losses} times, and claimed again"
        assert claim.careful is (losses >= 2), f"{key} was lost {losses} times: careful is {claim.careful}"
        book.not_before_us.pop(claim.number, None)
        self.attempts[key] = claim.attempt
        self.holds[key] = hold

    def _fails_of_losses(self, job: Job, numbers: Sequence[int]) -> None:
        """It was this job's turn, and another was served: a shard was lost once too often."""
        losses = [self.books[job.id].losses[n] + 1 for n in numbers if (job.id, n) in self.holds]
        assert LOSSES_MAX in losses, f"it was the turn of {job.id} with shards {numbers}"
        assert self.ledger.job(job.id).reason == "owner_lost", f"{job.id} was not served, and has not failed"
        for shard in self.ledger.shards(job.id, -1, 10_000):  # the ones before it were taken, and freed with the job
            used = self.attempts.get((job.id, shard.number), 0)
            assert 0 <= shard.attempt - used <= (shard.number in numbers), f"shard {shard.number} of {job.id} is newer"
            self.attempts[job.id, shard.number] = shard.attempt
        self.free(job.id)

    def is_newest(self, claim: Claim) -> bool:
        """Whether this claim may still change anything."""
        hold = self.holds.get((claim.job_id, claim.number))
        return hold is not None and hold.attempt == claim.attempt

    def answered(self, what: str, claim: Claim, answer: bool) -> None:
        """Complete, fail or release was answered."""
        newest = self.is_newest(claim)
        key = (claim.job_id, claim.number)
        assert answer is newest, f"{what} of attempt {claim.attempt} at {key} said {answer}, it has to be {newest}"
        if newest:
            del self.holds[key]

    def renewed(self, owner: Owner, held: Collection[Key], lease_us: int) -> None:
        """What an owner was told that it holds."""
        mine = {key for key, hold in self.holds.items() if hold.owner == owner}
        assert set(held) == mine, f"{owner.pid} holds {sorted(mine)}, and was told {sorted(held)}"
        for key in mine:
            self.holds[key].until_us = self.ledger.now_us() + lease_us

    def completed(self, claim: Claim, outcome: ShardOutcome | None) -> None:
        """An attempt that counted did its shard."""
        book = self.books[claim.job_id]
        assert claim.number not in book.done, f"shard {claim.number} of {claim.job_id} was done twice"
        if claim.kind == "plan":
            assert not book.is_planned, f"{claim.job_id} was planned twice"
            book.is_planned = True
        elif claim.kind == "finish":
            book.finish_done = True
        elif outcome is not None:
            book.done[claim.number] = outcome
        if self.ledger.job(claim.job_id).status in ENDED:
            self.free(claim.job_id)

    def tried(self, claim: Claim, kind: str) -> None:
        """An attempt that counted gave nothing."""
        book, now_us = self.books[claim.job_id], self.ledger.now_us()
        if kind == "retry":
            book.errors[claim.number] += 1
            times = book.errors[claim.number]
            if times <= len(RETRY_US):
                book.not_before_us[claim.number] = now_us + RETRY_US[times - 1]
        if kind == "wait":
            (shard,) = self.ledger.shards(claim.job_id, claim.number, 1)
            assert 5 * SECOND_US <= shard.ready_us - now_us <= 60 * SECOND_US, "a wait out of its bounds"
            ready = [one.number for one in self.ledger.shards(claim.job_id, -1, 10_000) if one.state == "ready"]
            for number in ready:
                book.not_before_us[number] = max(book.not_before_us.get(number, 0), shard.ready_us)
        ends = kind == "end" or book.errors[claim.number] > len(RETRY_US)
        assert (self.ledger.job(claim.job_id).status == "failed") is ends, f"{claim.job_id} after {kind}"
        if ends:
            self.free(claim.job_id)

    def free(self, job_id: str) -> None:
        """A job has ended: nobody holds anything of it."""
        self.holds = {key: hold for key, hold in self.holds.items() if key[0] != job_id}

    def resumed(self, job_id: str) -> None:
        """Its counts begin anew."""
        book = self.books[job_id]
        held = {number for job, number in self.holds if job == job_id}
        book.errors = Counter({n: times for n, times in book.errors.items() if n in held})
        book.losses = Counter({n: times for n, times in book.losses.items() if n in held})
        book.not_before_us.clear()

    def forget(self, job_id: str) -> None:
        """It was deleted."""
        self.free(job_id)
        del self.books[job_id]

    # ---- looking -----------------------------------------------------------------------------------------------------

    def check(self, store: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
        """Everything, after every event."""
        owners = {hold.owner for hold in self.holds.values()}
        assert set(self.ledger.owners()) == owners, "other owners than those who hold something"
        for job_id, book in self.books.items():
            job, shards = self.ledger.job(job_id), self.ledger.shards(job_id, -1, 10_000)
            self._check_shards(book, shards, store)
            _check_counts(book, job, shards)
            _check_status(book, job, shards)

    def _check_shards(
        self, book: Book, shards: Sequence[Shard], store: Mapping[tuple[str, str], tuple[str, ...]]
    ) -> None:
        numbers = [shard.number for shard in shards]
        assert numbers == list(range(-1, book.finish + 1 if book.is_planned else 0)), (
            f"shards lost or doubled: {numbers}"
        )
        for shard in shards:
            key = (shard.job_id, shard.number)
            hold = self.holds.get(key)
            assert (shard.state == "claimed") is (hold is not None), f"{key} is {shard.state}, held by {hold}"
            assert (shard.owner, shard.attempt) == (
                hold.owner if hold else None,
                self.attempts.get(key, 0),
            ), f"{key} of {shard.owner} at attempt {shard.attempt}, held by {hold}"
            if hold:
                assert shard.lease_until_us == hold.until_us, f"the lease of {key} is another"
            if shard.kind != "rows":
                continue
            rows = book.rows[shard.number]
            assert shard.range is not None, f"{key} has no range"
            assert shard.range.rows == (len(rows) if book.counted else None), f"{key} has another range"
            assert (shard.state == "done") is (shard.number in book.done), f"{key} is {shard.state}"
            if shard.state == "done":
                assert shard.outcome == book.done[shard.number], f"{key} has another outcome"
                part = shard.outcome.part if shard.outcome else None
                assert part is not None, f"{key} has no part"
                assert store.get((shard.job_id, part.name)) == rows, f"the part of {key} is not whole"


def _check_counts(book: Book, job: Job, shards: Sequence[Shard]) -> None:
    """The job's counters are what its shards add up to."""
    counts, done = job.counts, list(book.done.values())
    if not book.is_planned:
        assert (counts.shards, counts.rows_done) == (0, 0), f"{job.id} counts without a plan"
        return
    reasons: Counter[str] = Counter()
    for outcome in done:
        reasons.update(outcome.tally.failed_by_reason)
    expected = (
        book.finish + 1,
        len(done) + book.finish_done,
        sum(outcome.tally.rows_in for outcome in done),
        sum(outcome.tally.rows_failed for outcome in done),
        dict(reasons),
    )
    assert (
        counts.shards,
        counts.shards_done,
        counts.rows_done,
        counts.rows_failed,
        dict(counts.failed_by_reason),
    ) == expected, f"the counters of {job.id} are {counts}, not {expected}"
    total = sum(map(len, book.rows))
    known = book.counted or len(done) == book.finish
    assert counts.rows_total == (total if known else None), f"{job.id} has {total} rows, not {counts.rows_total}"


def _check_status(book: Book, job: Job, shards: Sequence[Shard]) -> None:
    """The status says what the shards do, and a job that may go on has something to go on with."""
    states = Counter(shard.state for shard in shards)
    assert (job.status in COMPLETED) is book.finish_done, f"{job.id} is {job.status}"
    assert (job.status in ENDED) is (job.ended_us is not None), f"{job.id} is {job.status}, ended {job.ended_us}"
    assert job.status == "failed" or not states["failed"], f"{job.id} is {job.status} with a failed shard"
    assert job.status not in ENDED or not states["claimed"], f"{job.id} has ended, and somebody works at it"
    stuck = job.status in ("queued", "running", "paused") and not states["ready"] and not states["claimed"]
    assert not stuck, f"{job.id} is {job.status} for ever: {dict(states)}"
    if book.is_planned and shards[-1].state != "waiting":
        assert len(book.done) == book.finish, f"{job.id} is finished before all of its rows are there"
    too_many = job.counts.rows_total and job.counts.rows_failed / job.counts.rows_total > job.spec.run.max_error_rate
    assert not too_many or job.status == "failed", f"{job.id} goes on with too many failed rows"
