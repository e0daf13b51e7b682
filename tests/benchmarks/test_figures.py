"""What the benchmark makes of its measurements: ratios, and the tables between the marks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plots, results
from benchmarks.bench import Machine
from benchmarks.report import BEGIN, END, document, replace_figures, short_table, table
from benchmarks.results import Bar, Comparison, Result, Rival, Side, Tail, at_least, at_most, keep, read_results
from benchmarks.rows import ROWS
from benchmarks.statistics import Ratio, ratio

RATES = st.lists(st.floats(10, 1e5), min_size=3, max_size=20)
MACHINE = Machine("a processor", 2, 24.0, "Linux", "3.11.7", (("onnxruntime", "1.32.0"),), "wrk 4.1.0")
EVEN = ratio([1.0] * 3, [1.0] * 3)


@given(RATES)
def test_the_interval_holds_the_median(rates: list[float]) -> None:
    seen = ratio(rates, rates[::-1])
    assert seen.low <= seen.median <= seen.high
    assert seen.pairs == len(rates)


def test_one_odd_pair_does_not_move_the_ratio() -> None:
    seen = ratio([300.0] * 14 + [30.0], [100.0] * 15)
    assert seen.median == 3.0
    assert (seen.low, seen.high) == (3.0, 3.0)


def comparison(connections: int = 64) -> Comparison:
    """Ours at 3,000/s beside two peers."""
    rivals = tuple(
        Rival(name, Side(rate, 2.0, 9.0), ratio([3000.0] * 3, [rate] * 3))
        for name, rate in (("slow", 500.0), ("fast", 1500.0))
    )
    return Comparison("a request", connections, Side(3000.0, 1.0, 2.0), rivals, Side(9000.0, 0.5, 1.0), EVEN)


def row(name: str = "start", **given: object) -> Result:
    return Result(name, "2026-01-01 00:00", MACHINE, **given)  # pyrefly: ignore[bad-argument-type] - fields of Result


@pytest.mark.parametrize(("median", "met"), [(1.3, True), (1.29, False)])
def test_a_bar_is_met_when_the_median_meets_it(median: float, *, met: bool) -> None:
    seen = Ratio(median, 1.0, 2.0, 15)
    assert at_least("x", seen, 1.3, "2x") == Bar("x", f"{median:.2f} [1.00, 2.00]x", ">= 1.3x, aim 2x", met)
    assert at_most("x", seen, 1.29).met is not met


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
    late = row(bars=(Bar("start, s", "1.20", "<= 1.0", met=False, beside="9 starts"),))
    assert "| `start` | start, s | **1.20** | <= 1.0 | **not met** | 9 starts |" in document([late], [])
    assert "| start, s | 1.20 | <= 1.0 | **not met** |" in short_table([], [late])


def test_every_server_of_a_comparison_is_in_the_document() -> None:
    text = document([row("oip-c64", comparison=comparison())], [comparison()])
    for line in (
        "| a request | 64 | **Glass AI** | 3,000 | 1.00 / 2.00 | control 1.00 [1.00, 1.00] |",
        "| a request | 64 | slow | 500 | 2.00 / 9.00 | **6.00 [6.00, 6.00]** |",
        "| a request | 64 | constant route | 9,000 | 0.50 / 1.00 |  |",
    ):
        assert line in text


def test_the_short_table_names_the_best_peer() -> None:
    assert "| fast: 1,500 | 2.00 [2.00, 2.00] |" in short_table([comparison()], [])


def test_facts_and_tails_are_shown() -> None:
    told = row("poisson-70", facts=(("p50, ms", "1.0"),), tails=(Tail("busy", 1000, 1.0, 2.0, 3.0, 4.0),))
    text = document([told], [])
    assert "| `poisson-70` | p50, ms | 1.0 |" in text
    assert "| busy | 1,000 | 1.00 | 2.00 | 3.00 | 4.00 |" in text


def test_a_cell_cannot_break_its_table() -> None:
    assert table(["a"], [["x|y"]]).endswith("| x\\|y |")


def test_before_anything_is_measured_no_figure_is_shown() -> None:
    assert document([], []) == ""
    assert short_table([], []) == ""


def test_a_row_takes_the_place_of_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS_FILE", tmp_path / "results.json")
    keep(row(facts=(("a", "1"),)))
    keep(row("other", comparison=comparison()))
    keep(row(facts=(("a", "2"),)))
    kept = read_results()
    assert kept["start"].facts == (("a", "2"),)
    assert kept["other"].comparison == comparison()


def test_the_measured_results_can_be_read() -> None:
    assert set(read_results()) <= set(ROWS)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    plots.draw_rates([comparison(1), comparison(64)], tmp_path / "rates.png")
    plots.draw_tails([Tail("busy", 1000, 1.0, 2.0, 3.0, 4.0)], tmp_path / "tails.png")
    for name in ("rates.png", "tails.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
