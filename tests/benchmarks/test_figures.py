"""What the benchmark makes of its measurements: ratios, bars and the tables between the marks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import http_rows
from benchmarks.bench import Machine
from benchmarks.http_rows import Effort, Question, http_row
from benchmarks.report import BEGIN, END, document, replace_figures, short_table
from benchmarks.results import Bar, Comparison, Result, Side
from benchmarks.statistics import ratio

RATES = st.lists(st.floats(10, 1e5), min_size=3, max_size=20)
MACHINE = Machine("a processor", 2, 24.0, "Linux", "3.11.7", (("onnxruntime", "1.32.0"),), "wrk 4.1.0")


@given(RATES)
def test_the_interval_holds_the_median(rates: list[float]) -> None:
    seen = ratio(rates, rates[::-1])
    assert seen.low <= seen.median <= seen.high
    assert seen.pairs == len(rates)


def test_one_odd_pair_does_not_move_the_ratio() -> None:
    seen = ratio([300.0] * 14 + [30.0], [100.0] * 15)
    assert seen.median == 3.0
    assert (seen.low, seen.high) == (3.0, 3.0)


def comparison(median: float, connections: int = 64) -> Comparison:
    """A comparison with this ratio."""
    side = Side(1000.0, 1.0, 2.0)
    return Comparison("a request", connections, side, side, side, ratio([median] * 3, [1.0] * 3), ratio([1.0], [1.0]))


@pytest.mark.parametrize(("median", "met"), [(3.0, True), (2.99, False)])
def test_the_bar_at_64_callers_is_three_times(median: float, *, met: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_rows, "compare", lambda question, connections, effort: comparison(median, connections))
    (bar,) = http_row(lambda: object(), 64, "oip-c64", Effort()).bars  # pyrefly: ignore[bad-argument-type] - unused
    assert bar.met is met


def test_fewer_callers_have_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_rows, "compare", lambda question, connections, effort: comparison(1.0, connections))
    assert http_row(lambda: object(), 1, "oip-c1", Effort()).bars == ()  # pyrefly: ignore[bad-argument-type] - unused


def test_a_wrong_answer_is_not_taken_for_right() -> None:
    def number(answer: bytes) -> float:
        return float(answer)

    question = Question("q", Path(), "/", b"", "/", b"", number, number, expected=0.25)
    assert question.right(b"0.25001")
    assert not question.right(b"0.26")


def test_figures_go_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    replace_figures(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("only prose\n")
    replace_figures(page, "new")
    assert page.read_text() == "only prose\n"


def test_a_bar_that_is_not_met_says_so() -> None:
    row = Result("start", "2026-01-01 00:00", MACHINE, bars=(Bar("start, s", "1.20", "<= 1.0", met=False),))
    assert "| start, s | 1.20 | <= 1.0 | **not met** |" in document([row], [])


def test_before_anything_is_measured_no_figure_is_shown() -> None:
    assert document([], []) == ""
    assert short_table([], []) == ""
