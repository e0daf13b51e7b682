"""Which process a line belongs to: always the same one, and lines spread over all of them."""

from __future__ import annotations

from collections import Counter

from inference.decisions.line_owner import owner_of


def test_the_owner_never_changes() -> None:
    """Fixed figures: processes of different versions of this server would otherwise disagree."""
    lines = ["L1", "L2", "line-7", "Ofen 3, Band ä", ""]
    assert [owner_of("lstm_defect_predictor", line, 4) for line in lines] == FIXED


FIXED = [3, 0, 1, 2, 0]


def test_a_name_cannot_run_into_another() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("abc", "")]
    assert len({owner_of(model, line, 2**32) for model, line in pairs}) == len(pairs)


def test_lines_spread_evenly() -> None:
    counts = Counter(owner_of("m", f"L{number}", 4) for number in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) < 1.1 * min(counts.values()) + 60


def test_one_process_owns_everything() -> None:
    assert {owner_of("m", f"L{number}", 1) for number in range(50)} == {0}


def test_half_a_surrogate_pair_has_an_owner_too() -> None:
    assert owner_of("m", "\ud800", 3) in range(3)
