"""What has no short way goes through the live line, and lines are forgotten as the live path forgets them."""

from __future__ import annotations

import pytest

from inference.job_errors import RowsUnordered
from inference.settings import LinesSettings
from tests.inference.pipeline.line_tables import bulk_answers, live_answers, plant_row, table_of
from tests.inference.pipeline.plant import WINDOW


def test_a_line_that_was_forgotten_begins_anew() -> None:
    limits = LinesSettings(lines_max=2)
    rows = [plant_row(line, 10 * n) for n, line in enumerate("ABACB")]
    answers = bulk_answers(table_of(rows), [], settings=limits)
    assert [answer.real_rows for answer in answers] == [1, 1, 2, 1, 1]
    assert answers == live_answers(rows, WINDOW, limits)


def test_a_refused_row_is_no_sign_of_life() -> None:
    limits = LinesSettings(lines_max=2)
    rows = [
        plant_row("A", 1),
        plant_row("B", 2),
        plant_row("A", 3, pressure=99.0),
        plant_row("C", 4),
        plant_row("B", 5),
    ]
    answers = bulk_answers(table_of(rows), [3], shards={3}, settings=limits)
    assert [answer.real_rows for answer in answers] == [1, 1, 0, 1, 2]
    assert answers == live_answers(rows, WINDOW, limits)


def test_a_repeated_row_is_in_order_and_a_conflicting_one_fails_alone() -> None:
    rows = [plant_row("A", 1), plant_row("A", 1), plant_row("A", 1, 1501.0), plant_row("A", 2)]
    answers = bulk_answers(table_of(rows), [], unordered="refuse")
    assert [answer.reason for answer in answers] == ["", "", "row_conflict", ""]
    assert [answer.real_rows for answer in answers] == [1, 1, 0, 2]


def test_disorder_is_told_by_the_rows_place_in_the_dataset_across_shards() -> None:
    rows = [plant_row("A", 10 * n) for n in range(5)] + [plant_row("A", 15)]
    with pytest.raises(RowsUnordered, match="Row 5 of the dataset"):
        bulk_answers(table_of(rows), [2, 4], shards={2, 4}, unordered="refuse")
