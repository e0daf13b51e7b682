"""Errors of jobs."""

from __future__ import annotations

import inspect
import re

from inference import job_errors
from inference.errors import InferenceError
from inference.fault import Fault
from inference.job_errors import InputChanged, JobDiffers, JobNotFound, SourceInvalid

CLASSES = [c for _, c in inspect.getmembers(job_errors, inspect.isclass) if issubclass(c, InferenceError)]


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", job_errors.__doc__ or ""))
    assert {c.__name__ for c in CLASSES} - {"NotFound"} <= drawn


def test_reasons_are_short_stable_codes() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", c.reason) for c in CLASSES)


def test_what_differs_is_listed_with_now_and_then() -> None:
    error = JobDiffers("scores.parquet", "job_1", [Fault("rows.shard_rows", "10", "20")])
    assert "\n  - rows.shard_rows: now 10, then 20" in str(error)
    assert "--restart" in str(error)
    assert error.details == (Fault("rows.shard_rows", "10", "20"),)


def test_all_problems_of_a_dataset_are_told_at_once() -> None:
    assert SourceInvalid("rows.parquet", ["a", "b"]).problems == ("a", "b")


def test_a_changed_input_and_an_unknown_job_name_what_they_are_about() -> None:
    assert InputChanged("rows.csv", "5 bytes", "6 bytes").details[0].field == "rows.csv"
    assert "'job_x'" in str(JobNotFound("job_x"))
