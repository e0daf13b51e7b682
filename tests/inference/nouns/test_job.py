"""What makes a job the same job, and how a difference is told."""

from __future__ import annotations

import msgspec
import pytest

from inference.job import COMPLETED, ENDED, Dataset, InputFile, JobFacts, JobSpec, Output, RowSettings, RunSettings
from inference.request import Priority

DATASET = Dataset(("rows.parquet",), "parquet")
FACTS = JobFacts(
    "lstm/1", "ab" * 32, (InputFile("rows.parquet", 10, "sha256:12"),), DATASET, Output("out.parquet"), RowSettings()
)
OTHERS = {
    "model_sha256": msgspec.structs.replace(FACTS, model_sha256="cd" * 32),
    "input 'rows.parquet'": msgspec.structs.replace(FACTS, inputs=(InputFile("rows.parquet", 11, "sha256:12"),)),
    "dataset.columns": msgspec.structs.replace(FACTS, dataset=Dataset(("rows.parquet",), "parquet", {"pressure": "p"})),
    "output.path": msgspec.structs.replace(FACTS, output=Output("other.parquet")),
    "rows.shard_rows": msgspec.structs.replace(FACTS, rows=RowSettings(shard_rows=7)),
}


def test_equal_facts_are_the_same_job_wherever_they_were_written() -> None:
    copy = msgspec.json.decode(msgspec.json.encode(FACTS), type=JobFacts)
    assert copy.identity == FACTS.identity
    assert len(FACTS.identity) == 64
    assert FACTS.differences(copy) == []


def test_the_order_of_a_mapping_says_nothing() -> None:
    one, two = {"a": "x", "b": "y"}, {"b": "y", "a": "x"}
    facts = [msgspec.structs.replace(FACTS, dataset=Dataset(("r",), "csv", columns)) for columns in (one, two)]
    assert facts[0].identity == facts[1].identity


@pytest.mark.parametrize("field", OTHERS)
def test_a_difference_makes_another_job_and_is_named(field: str) -> None:
    now = OTHERS[field]
    assert now.identity != FACTS.identity
    (fault,) = now.differences(FACTS)
    assert fault.field == field


def test_many_changed_inputs_are_counted_and_another_order_is_one() -> None:
    files = tuple(InputFile(f"{n}.csv", n, "sha256:0") for n in range(5))
    then = msgspec.structs.replace(FACTS, inputs=files)
    gone = msgspec.structs.replace(FACTS, inputs=files[3:])
    assert [fault.field for fault in gone.differences(then)] == ["input '0.csv' (and 2 more)"]
    assert gone.differences(then)[0].given == "not there"
    turned = msgspec.structs.replace(FACTS, inputs=files[::-1])
    assert [fault.field for fault in turned.differences(then)] == ["input"]


def test_settings_of_the_run_are_no_part_of_it() -> None:
    assert not set(RunSettings.__struct_fields__) & set(RowSettings.__struct_fields__)


def test_a_spec_reads_back_and_refuses_what_it_does_not_know() -> None:
    spec = JobSpec("lstm", DATASET, Output("out"))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"model_name": "m", "dataset": {"paths": ["a"], "format": "csv"}, "outptu": {}}, JobSpec)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"paths": [], "format": "csv"}, Dataset)


def test_jobs_are_ordered_by_the_bands_of_callers_and_no_job_has_the_band_that_all_of_them_run_in() -> None:
    assert RunSettings(Priority.CRITICAL).priority is Priority.CRITICAL
    with pytest.raises(ValueError, match="priority: given background, accepted critical, high, normal or low"):
        RunSettings(Priority.BACKGROUND)
    with pytest.raises(msgspec.ValidationError, match="given background"):
        msgspec.convert({"priority": 5}, RunSettings)


def test_a_completed_job_has_ended() -> None:
    assert COMPLETED < ENDED
