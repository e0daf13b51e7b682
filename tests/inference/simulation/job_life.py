"""Whole lives of jobs in virtual time, from a seed: workers that read, write and commit, die, sleep and come back late.

After every event everything is held against the oracle. To replay a seed and see its events:
python -m tests.inference.simulation.job_life SEED
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from inference.job import COMPLETED, ENDED, Dataset, Job, JobSpec, Output, RunSettings, Wanted
from inference.job_errors import JobConflict
from inference.ledger.ledger import JobQuery, Ledger, NewJob
from inference.ledger.memory_ledger import MemoryLedger
from inference.request import LIVE_PRIORITIES
from inference.shard import Claim, Owner, Part, Piece, ShardFailure, ShardOutcome, ShardRange, Tally
from tests.inference.simulation.job_oracle import SECOND_US, Book, JobOracle

LEASE_US = 60 * SECOND_US
CHAOS_S = 400.0  # then nothing goes wrong any more, and everything has to be done
EVENTS_MAX = 20_000  # many times what the longest life takes


@dataclass(eq=False)
class Worker:
    """A process that works at shards. Its clock may run slow, so that it renews its leases too late."""

    owner: Owner
    slowness: float
    hands: list[Claim] = field(default_factory=list)
    alive: bool = True
    sleeps_until_s: float = 0.0


class JobLife:
    """One ledger with its jobs and workers. `run` lives it; an AssertionError says which promise was broken."""

    def __init__(
        self, seed: int, make: Callable[[Callable[[], int]], Ledger] = MemoryLedger, *, log: bool = False
    ) -> None:
        self.random = Random(seed)
        self.log = log
        self.now_s = 0.0
        self.step_s = 0.0  # how far the ledger's clock has been put forward
        self.ledger = make(lambda: 1_700_000_000 * SECOND_US + round((self.now_s + self.step_s) * 1e6))
        self.oracle = JobOracle(self.ledger)
        self.workers: list[Worker] = []
        self.dead: list[Owner] = []
        self.store: dict[tuple[str, str], tuple[str, ...]] = {}  # parts by job and name
        self.outputs: dict[str, tuple[str, ...]] = {}
        self.poison: set[tuple[str, int]] = set()  # shards that take a worker along, unless it is careful
        self.kill_rate = self.random.choice([0.0, 0.05, 0.15])
        self.fail_rate = self.random.choice([0.0, 0.1, 0.3])
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.count = itertools.count()
        self.numbers = itertools.count(1)
        self.seen: Counter[str] = Counter()  # that the lives hold everything that they are meant to hold

    # ---- time --------------------------------------------------------------------------------------------------------

    @property
    def calm(self) -> bool:
        return self.now_s >= CHAOS_S

    def chance(self, rate: float) -> bool:
        return not self.calm and self.random.random() < rate

    def at(self, delay_s: float, what: Callable[..., None], *subject: object) -> None:
        heapq.heappush(self.events, (self.now_s + delay_s, next(self.count), what, subject))

    def run(self) -> JobLife:
        random = self.random
        for _ in range(random.randint(1, 3)):
            self.at(random.choice([0.0, random.uniform(0, CHAOS_S)]), self.create)
        for _ in range(random.randint(1, 4)):
            self.hire()
        for what, most in ((self.order, 8), (self.hire, 2), (self.put_clock, 2), (self.delete, 1), (self.reap, 3)):
            for _ in range(random.randint(0, most)):
                self.at(random.uniform(0, CHAOS_S), what)
        self.at(CHAOS_S, self.mend)
        for _ in range(EVENTS_MAX):
            if self.calm and self.is_over():
                break
            self.now_s, _, what, subject = heapq.heappop(self.events)
            if self.is_asleep(what, subject):
                continue
            if self.log:
                print(f"{self.now_s:9.2f} {what.__name__:10}", *map(_named, subject))
            what(*subject)
            self.oracle.check(self.store)
        assert self.is_over(), f"jobs are not done in the end: {[(job.id, job.status) for job in self.jobs()]}"
        self.check_end()
        return self

    def is_asleep(self, what: Callable[..., None], subject: tuple[object, ...]) -> bool:
        """Whether the event belongs to a worker that is gone, or stopped: then it comes when it wakes."""
        worker = subject[0] if subject else None
        if not isinstance(worker, Worker):
            return False
        if worker.alive and worker.sleeps_until_s > self.now_s:
            self.at(worker.sleeps_until_s - self.now_s, what, *subject)
            return True
        return not worker.alive

    def is_over(self) -> bool:
        return all(job.status in COMPLETED for job in self.jobs())

    def jobs(self) -> list[Job]:
        return list(self.ledger.jobs(JobQuery(count=100)).jobs)

    # ---- jobs --------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        random, job_id = self.random, f"job_{next(self.numbers)}"
        run = RunSettings(random.choice(list(LIVE_PRIORITIES)), max_error_rate=random.choice([0.05, 0.3, 1.0]))
        spec = JobSpec("m", Dataset(("in",), "csv"), Output("out"), run=run)
        sizes = [random.randint(1, 5) for _ in range(random.choice([0, 1, 3, 8, 16]))]
        rows = [tuple(f"{job_id}/{n}/{row}" for row in range(size)) for n, size in enumerate(sizes)]
        assert self.ledger.create(NewJob(job_id, job_id, "m/1", "", spec)) is not None
        same = self.ledger.create(NewJob(f"{job_id}b", job_id, "m/1", "", spec))
        assert same is not None
        assert same.id == job_id, "the same command twice made two jobs"
        self.oracle.books[job_id] = Book(rows, counted=random.random() < 0.7)
        self.poison |= {(job_id, n) for n in range(-1, len(rows) + 1) if random.random() < 0.05}

    def order(self) -> None:
        """Somebody wants something of a job."""
        if jobs := self.jobs():
            self.want(self.random.choice(jobs), self.random.choice(["run", "pause", "pause", "cancel"]))

    def want(self, job: Job, wanted: Wanted, run: RunSettings | None = None) -> None:
        try:
            after = self.ledger.want(job.id, wanted, run)
        except JobConflict as conflict:
            done = job.status in COMPLETED or (job.status, wanted) in (
                *(("failed", "pause"), ("failed", "cancel"), ("cancelled", "pause")),
            )
            hopeless = wanted == "run" and "max_error_rate" in str(conflict)
            assert done or hopeless, f"{job.id} is {job.status}, and was not {wanted}"
            self.seen["refused"] += 1
            return
        status = {"pause": "paused", "cancel": "cancelled", "run": job.status}[wanted]
        if wanted == "run" and job.status not in ("queued", "running"):
            status = "queued"
            self.oracle.resumed(job.id)
        assert after.status == status, f"{job.id} was {job.status}, {wanted}, and is {after.status}"
        if after.status in ENDED:
            self.oracle.free(job.id)
        self.seen[f"{job.status}, {wanted}"] += 1
        self.seen[f"failed of {job.reason}"] += job.status == "failed"
        if wanted != "run":
            self.at(self.random.expovariate(1 / 20), self.resume, job.id)

    def resume(self, job_id: str) -> None:
        if job_id in self.oracle.books:
            self.want(self.ledger.job(job_id), "run")

    def mend(self) -> None:
        """Who watches over the jobs resumes those that have ended, or wait for that, again and again."""
        for job in self.jobs():
            if job.status in ("paused", "failed", "cancelled"):
                self.want(job, "run", replace(job.spec.run, max_error_rate=1.0))
        self.at(10.0, self.mend)

    def delete(self) -> None:
        for job in self.jobs():
            if job.status in ENDED and self.random.random() < 0.5:
                self.ledger.delete(job.id)
                self.oracle.forget(job.id)
                self.seen["deleted"] += 1

    def put_clock(self) -> None:
        """The ledger's clock is put forward or back."""
        self.step_s += self.random.choice([-300.0, -20.0, -1.0, 1.0, 20.0, 70.0, 7200.0])
        self.seen["clock"] += 1

    # ---- workers -----------------------------------------------------------------------------------------------------

    def hire(self) -> None:
        random = self.random
        owner = Owner(random.choice("ab"), "boot", next(self.numbers), "1")
        worker = Worker(owner, random.choice([0.5, 1.0, 1.0, 1.0, 6.0]))
        self.workers.append(worker)
        self.at(random.uniform(0, 2), self.poll, worker)
        self.at(15.0 * worker.slowness, self.beat, worker)

    def die(self, worker: Worker, stage: str) -> None:
        self.seen[f"died {stage}"] += 1
        worker.alive = False
        self.workers.remove(worker)
        self.dead.append(worker.owner)
        if self.log:
            print(" " * 9, f"{worker.owner.pid} dies {stage}")
        self.at(self.random.choice([0.1, 5.0, 90.0]), self.hire)

    def reap(self) -> None:
        """A machine takes all of its workers along."""
        for worker in [worker for worker in self.workers if worker.owner.host == "a"]:
            self.die(worker, "with its machine")

    def beat(self, worker: Worker) -> None:
        renewal = self.ledger.renew(worker.owner, LEASE_US)
        self.oracle.renewed(worker.owner, renewal.held, LEASE_US)
        for claim in list(worker.hands):
            lost = (claim.job_id, claim.number) not in renewal.held
            if lost and self.random.random() < 0.5:  # the others hear it from what they call
                worker.hands.remove(claim)
            elif not lost and renewal.wanted[claim.job_id] == "pause" and self.random.random() < 0.5:
                self.give_back(worker, claim)
        self.at(15.0 * worker.slowness, self.beat, worker)

    def poll(self, worker: Worker) -> None:
        room = 2 - len(worker.hands)
        if room:
            self.claim(worker, room)
        if worker.alive:
            self.at(self.random.uniform(0.5, 3.0), self.poll, worker)

    def claim(self, worker: Worker, room: int) -> None:
        before = self.jobs()
        only = self.random.choice(before).id if before and self.random.random() < 0.1 else None
        seen_dead = {owner for owner in self.dead if owner.host == worker.owner.host}
        meant = [(job, self.oracle.expected(job, room, seen_dead)) for job in before if only in (None, job.id)]
        claims = self.ledger.claim(worker.owner, room, LEASE_US, only, seen_dead)
        self.oracle.claimed(claims, meant, worker.owner, LEASE_US)
        self.seen["careful"] += any(claim.careful for claim in claims)
        worker.hands += claims
        if claims and self.chance(self.kill_rate):
            self.die(worker, "at the claim")
            return
        if claims and self.chance(0.05):
            worker.sleeps_until_s = self.now_s + 100.0
        for claim in claims:
            self.at(self.random.expovariate(1 / 8), self.read, worker, claim)

    def read(self, worker: Worker, claim: Claim) -> None:
        """Read and predict."""
        random = self.random
        if claim not in worker.hands or claim.job_id not in self.oracle.books:
            return
        if self.chance(self.kill_rate) or ((claim.job_id, claim.number) in self.poison and not claim.careful):
            self.die(worker, "while it reads")
        elif self.chance(self.fail_rate):
            kind = random.choice(["retry", "retry", "retry", "wait", "wait", "end", "release"])
            self.give_back(worker, claim) if kind == "release" else self.fail(worker, claim, kind)
        else:
            if self.chance(0.05):
                worker.sleeps_until_s = self.now_s + random.choice([30.0, 70.0, 200.0])
                self.seen["slept"] += 1
            self.at(random.expovariate(1 / 8), self.write, worker, claim)

    def give_back(self, worker: Worker, claim: Claim) -> None:
        worker.hands.remove(claim)
        self.oracle.answered("release", claim, self.ledger.release(claim))
        self.seen["released"] += 1

    def fail(self, worker: Worker, claim: Claim, kind: str) -> None:
        worker.hands.remove(claim)
        answer = self.ledger.fail(claim, ShardFailure(kind, f"why_{kind}", "It failed."))
        self.oracle.answered("fail", claim, answer)
        self.seen[f"failed, {kind}"] += answer
        self.seen["failed late"] += not answer
        if answer:
            self.oracle.tried(claim, kind)

    def write(self, worker: Worker, claim: Claim) -> None:
        """Write what is seen by others at once, whole, and only then tell the ledger."""
        if claim not in worker.hands or claim.job_id not in self.oracle.books:
            return
        if self.chance(self.kill_rate):
            self.die(worker, "before the rename")
            return
        outcome = None
        if claim.kind == "rows":
            outcome = self.write_part(claim)
        elif claim.kind == "finish":
            outcome = self.publish(claim)
        if self.chance(self.kill_rate):
            self.die(worker, "before the commit")
        elif self.chance(0.05):
            worker.sleeps_until_s = self.now_s + 100.0
            self.at(0.0, self.commit, worker, claim, outcome)
        else:
            self.commit(worker, claim, outcome)

    def write_part(self, claim: Claim) -> ShardOutcome:
        rows = self.oracle.books[claim.job_id].rows[claim.number]
        assert claim.range is not None
        part = Part(f"{claim.number:06}.{claim.attempt}", len(rows), 1, "")
        assert (claim.job_id, part.name) not in self.store, f"{part.name} of {claim.job_id} was written twice"
        self.store[claim.job_id, part.name] = rows
        bad = len(rows) if claim.careful else Random(rows[0]).choice([0, 0, 0, 1])
        return ShardOutcome(Tally(len(rows), bad, {"not_finite": bad} if bad else {}), part)

    def publish(self, claim: Claim) -> ShardOutcome:
        """What the ledger says counts, in the order of the shards."""
        parts = [shard.outcome.part for shard in self.ledger.shards(claim.job_id, 0, claim.number) if shard.outcome]
        rows = tuple(row for part in parts if part for row in self.store[claim.job_id, part.name])
        expected = tuple(row for shard in self.oracle.books[claim.job_id].rows for row in shard)
        assert rows == expected, f"{claim.job_id} is published without all of its rows"
        self.outputs[claim.job_id] = rows
        return ShardOutcome(Tally(len(rows)))

    def commit(self, worker: Worker, claim: Claim, outcome: ShardOutcome | None) -> None:
        worker.hands = [one for one in worker.hands if one != claim]
        if outcome is None:
            book = self.oracle.books.get(claim.job_id)
            sizes = [len(rows) for rows in book.rows] if book else []
            counted = book is not None and book.counted
            starts = list(itertools.accumulate(sizes, initial=0))
            pieces = [(Piece(0, start, start + size),) for start, size in zip(starts, sizes, strict=False)]
            ranges = [ShardRange(n, starts[n], size if counted else None, pieces[n]) for n, size in enumerate(sizes)]
            answer = self.ledger.complete_plan(claim, ranges, sum(sizes) if counted else None)
        else:
            answer = self.ledger.complete(claim, outcome)
        self.oracle.answered("complete", claim, answer)
        self.seen[f"{claim.kind} {'done' if answer else 'late'}"] += 1
        if answer:
            self.oracle.completed(claim, outcome)
        if self.chance(0.05):  # the answer was lost, and it is told again
            again = outcome is not None and self.ledger.complete(claim, outcome)
            assert not again, f"shard {claim.number} of {claim.job_id} was done twice"
        if self.chance(self.kill_rate):
            self.die(worker, "after the commit")

    def check_end(self) -> None:
        for job in self.jobs():
            rows = tuple(row for shard in self.oracle.books[job.id].rows for row in shard)
            assert self.outputs[job.id] == rows, f"{job.id} is completed without all of its rows"
            assert job.counts.rows_done == job.counts.rows_total == len(rows)


def _named(subject: object) -> object:
    """What a line of the log says of it."""
    if isinstance(subject, Worker):
        return f"worker {subject.owner.pid}@{subject.owner.host}"
    return f"{subject.job_id}:{subject.number}.{subject.attempt}" if isinstance(subject, Claim) else subject


if __name__ == "__main__":
    print(dict(JobLife(int(sys.argv[1]), log=True).run().seen))
