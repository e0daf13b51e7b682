"""A band keeps who waits in the order of deadlines, apart by group."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random

import pytest

from inference.decisions.band import Band, Entry
from tests.inference.requests import request


def entry(name: str, turn: int, rows: int = 1, *, due_s: float = 10.0, group: Hashable = "same") -> Entry:
    made = request(name, rows, group=group, timeout_s=due_s)
    return Entry(made, made.deadline_s, turn, 0.0)


def band(*entries: Entry) -> Band:
    made = Band()
    for one in entries:
        made.add(one)
    return made


def taken(band: Band, group: Hashable, room: int, knee: int) -> tuple[list[tuple[str, int]], int]:
    entries, left = band.take(group, room, knee)
    return [(one.request.id, rows) for one, rows in entries], left


def first(band: Band) -> str | None:
    one = band.first()
    return None if one is None else one.request.id


def test_the_earliest_deadline_comes_first_and_of_equal_ones_who_came_first() -> None:
    waiting = band(entry("late", 1, due_s=9), entry("a", 2, due_s=5), entry("b", 3, due_s=5), entry("soon", 4, due_s=1))
    assert first(waiting) == "soon"
    assert taken(waiting, "same", 8, 8) == ([("soon", 1), ("a", 1), ("b", 1), ("late", 1)], 4)
    assert first(waiting) is None


def test_groups_wait_apart_and_the_first_of_all_is_known() -> None:
    waiting = band(entry("wide", 1, due_s=5, group="w"), entry("narrow", 2, due_s=3, group="n"))
    assert first(waiting) == "narrow"
    assert taken(waiting, "n", 8, 8) == ([("narrow", 1)], 7)
    assert first(waiting) == "wide"
    assert taken(waiting, "n", 8, 8) == ([], 8)


def test_who_does_not_fit_is_not_overtaken_and_leaves_no_room() -> None:
    waiting = band(entry("a", 1, 2), entry("b", 2, 3), entry("c", 3, 1))
    assert taken(waiting, "same", 4, 4) == ([("a", 2)], 0)
    assert taken(waiting, "same", 4, 4) == ([("b", 3), ("c", 1)], 0)


def test_only_a_request_above_the_knee_is_cut() -> None:
    waiting = band(entry("a", 1, 1), entry("big", 2, 9), entry("c", 3, 1))
    assert taken(waiting, "same", 4, 4) == ([("a", 1), ("big", 3)], 0)
    assert first(waiting) == "c"


def test_a_request_of_a_whole_batch_is_not_cut() -> None:
    waiting = band(entry("a", 1, 1), entry("full", 2, 4))
    assert taken(waiting, "same", 4, 4) == ([("a", 1)], 0)
    assert taken(waiting, "same", 4, 4) == ([("full", 4)], 0)


def test_nothing_is_taken_into_a_full_batch() -> None:
    waiting = band(entry("big", 1, 9))
    assert taken(waiting, "same", 0, 4) == ([], 0)
    assert first(waiting) == "big"


def test_the_rest_of_a_cut_request_goes_behind_its_group() -> None:
    waiting = band(entry("a", 1, due_s=20), entry("b", 2, due_s=30), entry("other", 3, due_s=40, group="other"))
    rest = entry("rest", 4, 9, due_s=5)
    waiting.add_rest(rest, 5)
    assert (rest.due_s, rest.turn) == (30, 5)
    assert taken(waiting, "same", 8, 8) == ([("a", 1), ("b", 1), ("rest", 6)], 0)


def test_the_rest_of_a_cut_request_keeps_its_deadline_when_nobody_of_its_group_waits() -> None:
    rest = entry("rest", 1, 9, due_s=5)
    rest.due_s = 30  # as it was put behind somebody who has run since
    waiting = band(entry("other", 3, due_s=20, group="other"))
    waiting.add_rest(rest, 4)
    assert first(waiting) == "rest"


def test_who_leaves_is_found_wherever_they_stand() -> None:
    entries = [entry(name, turn, due_s=5) for turn, name in enumerate("abcd")]
    waiting = band(*entries)
    for gone in (entries[2], entries[0]):
        waiting.remove(gone)
    assert first(waiting) == "b"
    assert taken(waiting, "same", 8, 8) == ([("b", 1), ("d", 1)], 6)


def test_a_place_that_was_changed_behind_its_back_is_noticed() -> None:
    one, two = entry("a", 1), entry("b", 2)
    waiting = band(one, two)
    one.due_s = 99.0
    with pytest.raises((AssertionError, IndexError)):
        waiting.remove(one)


def test_it_agrees_with_sorting_over_thousands_of_changes() -> None:
    random = Random(1)
    waiting, naive = Band(), []
    for turn in range(5000):
        if naive and random.random() < 0.48:
            gone = random.choice(naive)
            naive.remove(gone)
            waiting.remove(gone)
        else:
            one = entry(f"r{turn}", turn, due_s=random.choice([1, 2, 3, 5, 8]), group=random.choice("abc"))
            naive.append(one)
            waiting.add(one)
        assert waiting.first() is min(naive, key=lambda each: (each.due_s, each.turn), default=None)
    for group in "abc":
        ours = sorted((each for each in naive if each.request.group == group), key=lambda e: (e.due_s, e.turn))
        assert waiting.take(group, 10_000, 10_000)[0] == [(each, 1) for each in ours]
    assert waiting.first() is None
