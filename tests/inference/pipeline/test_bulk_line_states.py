"""Lines in arrays hold what `Line` holds, and survive as bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.fault import Fault
from inference.pipeline.bulk_line_states import LineStates
from inference.pipeline.features import Reading
from inference.pipeline.window import Line

FEATURES = ("a", "b")


def states_of(rows_held: int = 5, lines_max: int = 100) -> LineStates:
    return LineStates(FEATURES, 3, rows_held, lines_max)


def put(line: Line, number: int, *, gap: bool = False) -> None:
    gaps = [(1, Fault("b", "nothing", "a number"))] if gap else []
    line.put(Reading([float(number), -float(number)], gaps), 10 * number, 0, "L")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), st.integers(1, 9)), max_size=40))
def test_what_was_kept_is_found_again_also_from_bytes(story: list[tuple[str, int]]) -> None:
    lines: dict[str, Line] = {}
    states = states_of()
    for place, (name, rows) in enumerate(story):
        line = states.line(name)
        twin = lines.setdefault(name, Line(FEATURES, 3, 5))
        for row in range(rows):
            for each in (line, twin):
                put(each, 100 * place + row, gap=row % 3 == 2)
        states.keep(name, line.state(), place)
    states.rows_seen = 77
    again = states_of()
    again.decode(states.encode())
    assert again.rows_seen == 77
    assert len(again) == len(lines)
    assert again.encode() == states.encode()
    for name, twin in lines.items():
        for own in (states.line(name), again.line(name)):
            for one, other in zip(own.state(), twin.state(), strict=True):
                assert np.array_equal(one, other)


def test_nothing_is_known_at_first() -> None:
    states = states_of()
    states.keep("A", _line(2).state(), 0)
    states.decode(b"")
    assert (len(states), states.find("A"), states.rows_seen) == (0, -1, 0)
    assert states.line("A").newest_us is None


def test_a_dropped_line_gives_its_place_to_the_next() -> None:
    states = states_of()
    for number in range(1000):
        states.keep(f"L{number}", _line(3).state(), number)
        if number >= 10:
            states.drop(f"L{number - 10}")
    assert len(states) == 10
    assert len(states.counts) <= 16
    assert states.by_idleness() == [f"L{number}" for number in range(990, 1000)]


def test_short_lines_are_filled_with_their_first_row() -> None:
    states = states_of()
    states.keep("A", _line(2).state(), 0)
    assert states.values[states.find("A"), :, 0].tolist() == [0, 0, 0, 0, 1]


def test_a_line_takes_few_bytes() -> None:
    states = states_of()
    states.keep("A", _line(5).state(), 0)
    one = len(states.encode())
    states.keep("B", _line(5).state(), 1)
    assert len(states.encode()) - one < 5 * (8 + 2 * 4 + 1) + 10


def _line(rows: int) -> Line:
    line = Line(FEATURES, 3, 5)
    for number in range(rows):
        put(line, number)
    return line
