"""The nouns of the ledger's contract."""

from __future__ import annotations

import msgspec

from inference.job import Dataset, JobSpec, Output
from inference.ledger.ledger import JobPage, JobQuery, NewJob, Renewal


def test_a_new_job_and_a_query_travel() -> None:
    new = NewJob("job_1", "ab", "m/1", "cd", JobSpec("m", Dataset(("a.csv",), "csv"), Output("o")))
    assert msgspec.json.decode(msgspec.json.encode(new), type=NewJob) == new
    query = JobQuery(("queued", "running"), model_name="m")
    assert msgspec.json.decode(msgspec.json.encode(query), type=JobQuery) == query


def test_a_page_ends_and_a_renewal_may_hold_nothing() -> None:
    assert JobPage(()).next is None
    assert ("job_1", 0) not in Renewal(frozenset(), {}).held
