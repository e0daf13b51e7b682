"""The nouns of the ledger's contract."""

from __future__ import annotations

import msgspec
import pytest

from inference.errors import InvalidValues
from inference.job import Dataset, Job, JobCounts, JobSpec, Output
from inference.ledger.ledger import JobPage, JobQuery, NewJob, Renewal, page_mark, read_page_mark


def test_a_new_job_and_a_query_travel() -> None:
    new = NewJob("job_1", "ab", "m/1", "cd", JobSpec("m", Dataset(("a.csv",), "csv"), Output("o")))
    assert msgspec.json.decode(msgspec.json.encode(new), type=NewJob) == new
    query = JobQuery(("queued", "running"), model_name="m")
    assert msgspec.json.decode(msgspec.json.encode(query), type=JobQuery) == query


def test_a_page_ends_and_a_renewal_may_hold_nothing() -> None:
    assert JobPage(()).next is None
    assert ("job_1", 0) not in Renewal(frozenset(), {}).held


def test_a_page_goes_on_where_the_mark_is() -> None:
    spec = JobSpec("m", Dataset(("a.csv",), "csv"), Output("o"))
    job = Job("job_1.2", "", "m/1", "cd", spec, "queued", "run", JobCounts(), 1_700_000_000_000_000)
    assert read_page_mark(page_mark(job)) == (job.created_us, job.id)


@pytest.mark.parametrize("mark", ["", "job_1", "1.", ".a", "x.a", "-1.a", "\u00b2.a", "9" * 19 + ".a"])
def test_a_mark_that_no_page_had_is_refused(mark: str) -> None:
    with pytest.raises(InvalidValues, match="the `next` of the page before"):
        read_page_mark(mark)
