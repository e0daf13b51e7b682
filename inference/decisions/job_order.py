"""Which job's turn it is: by priority, raised while a job waits for its start, then by deadline, then by age. Pure."""

from __future__ import annotations

import msgspec

from inference.job import Job
from inference.request import Priority

_NO_DEADLINE = float("inf")

Turn = tuple[int, float, int, str]


class TurnPolicy(msgspec.Struct, frozen=True):
    """A job rises one band for each `aging_s` that it has waited."""

    aging_s: float = 600.0


def turn(job: Job, now_us: int, policy: TurnPolicy) -> Turn:
    """What jobs are sorted by; the lowest goes first. No two jobs have the same.

    A job waits from its creation to its start and keeps the band that it has risen to. While it runs it rises no
    further, else every long one would end up above all that are critical.
    """
    until_us = now_us if job.started_us is None else job.started_us
    risen = int(max(0, until_us - job.created_us) / (policy.aging_s * 1e6))
    band = max(int(job.spec.run.priority) - risen, int(Priority.CRITICAL))
    deadline_us = job.spec.run.deadline_us
    return band, _NO_DEADLINE if deadline_us is None else float(deadline_us), job.created_us, job.id
