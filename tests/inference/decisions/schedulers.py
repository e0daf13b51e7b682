"""Schedulers for tests, and their decisions in a form that reads as a story."""

from __future__ import annotations

from inference.decisions.admission import Admission, AdmissionPolicy
from inference.decisions.scheduler import Decision, QueuePolicy, Run, Scheduler
from tests.inference.bounds_only import BoundsOnly


def scheduler(
    knee: int | None = 4,
    *,
    runners: int = 1,
    rows_max: int = 100,
    bytes_max: int = 10_000,
    patience_s: float = 1.0,
    admission: type[Admission] = BoundsOnly,
) -> Scheduler:
    bounds = admission(AdmissionPolicy("adder/1", rows_max, bytes_max))
    made = Scheduler(QueuePolicy("adder/1", knee, patience_s), bounds)
    for runner in range(runners):
        assert made.runner_idle(runner, 0.0) == []
    return made


def names(decisions: list[Decision]) -> str:
    """The requests of the one batch that was started, in order."""
    ((_, parts),) = ran(decisions)
    return " ".join(name for name, _, _ in parts)


def ran(decisions: list[Decision]) -> list[tuple[int, list[tuple[str, int, int]]]]:
    """Decisions as (runner, [(request, from row, to row)])."""
    assert all(isinstance(decision, Run) for decision in decisions)
    return [
        (d.runner, [(part.request.id, part.start, part.stop) for part in d.batch.slices])
        for d in decisions
        if isinstance(d, Run)
    ]
