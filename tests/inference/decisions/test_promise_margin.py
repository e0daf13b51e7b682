"""The margin grows with late answers, shrinks slowly, and nobody's impatience moves it."""

from __future__ import annotations

import pytest

from inference.decisions.promise_margin import BATCHES_MAX, BATCHES_MIN, PromiseMargin


def margin(batch_s: float = 0.01) -> PromiseMargin:
    made = PromiseMargin()
    made.set_batch(batch_s)
    return made


def test_a_late_answer_raises_it_and_a_nearly_late_one_a_little():
    late, nearly, good = margin(), margin(), margin()
    late.answered(-0.001, 10.0)
    nearly.answered(0.4 * nearly.seconds, 10.0)
    good.answered(1.0, 10.0)
    assert late.seconds > nearly.seconds > 0.03 > good.seconds > 0.0299


def test_one_late_answer_is_made_good_by_thousands_that_are_not():
    made = margin()
    made.answered(-0.001, 10.0)
    answers = 0
    while made.seconds > 0.03:
        made.answered(1.0, 10.0)
        answers += 1
    assert 3000 < answers < 7000


def test_it_stays_within_its_bounds():
    made = margin()
    for _ in range(1000):
        made.answered(-1.0, 1e9)
    assert made.batches == BATCHES_MAX
    for _ in range(400_000):
        made.answered(100.0, 1e9)
    assert made.batches == BATCHES_MIN


def test_who_allows_too_little_teaches_nothing():
    made = margin()
    before = made.batches
    for _ in range(100):
        made.answered(-0.001, 0.05)
    assert made.batches == before


def test_late_answers_raise_it_to_a_quarter_of_what_callers_allow_and_no_further():
    made = margin()
    for _ in range(1000):
        made.answered(-1.0, 0.4)
    assert 0.1 <= made.seconds < 0.115


def test_what_the_server_adds_is_part_of_it():
    made = margin()
    for _ in range(500):
        made.observe_overhead(0.002)
        made.answered(1.0, 10.0)
    assert made.overhead_s == pytest.approx(0.002, rel=0.01)
    assert made.seconds == pytest.approx(made.batches * 0.01 + 0.002, rel=0.01)


def test_a_negative_overhead_is_a_clock_at_fault_and_ignored():
    made = margin()
    made.observe_overhead(-5.0)
    assert made.overhead_s == 0.0
