"""What every pipeline takes and gives."""

from __future__ import annotations

from inference.pipeline.sample import Prepared, Sample, wrong_input


def test_a_sample_without_more_is_one_row_of_nobody() -> None:
    sample = Sample({"pressure": 15.5})
    assert (sample.image_file, sample.stream_id) == (None, None)


def test_prepared_tensors_are_taken_for_whole_and_measured() -> None:
    assert (Prepared({}).real_rows, Prepared({}).input_quality) == (1, 1.0)


def test_an_input_of_another_kind_is_named_with_what_is_accepted() -> None:
    (fault,) = wrong_input({1, 2}, "an array").details
    assert (fault.given, fault.accepted) == ("of type set", "an array")
