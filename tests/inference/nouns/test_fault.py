"""Faults and how values are quoted in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.fault import GIVEN_CHARS_MAX, Fault, nearest, one_of, quoted


def test_a_fault_says_where_what_was_given_and_what_is_accepted() -> None:
    assert str(Fault("data.pressure", "'x'", "a number")) == "data.pressure: given 'x', accepted a number"


@given(st.one_of(st.text(max_size=2000), st.binary(max_size=2000), st.lists(st.integers(), max_size=500)))
def test_a_callers_value_is_quoted_and_never_at_length(value: object) -> None:
    assert len(quoted(value)) <= GIVEN_CHARS_MAX


def test_a_short_value_is_quoted_whole() -> None:
    assert quoted("furnace") == "'furnace'"


def test_the_nearest_name_is_offered() -> None:
    assert nearest("furnace_temprature", ["furnace_temperature", "pressure"]) == "furnace_temperature"
    assert nearest("zzz", ["furnace_temperature", "pressure"]) is None


def test_long_lists_are_cut_and_say_so() -> None:
    assert one_of(["b", "a"]) == "one of a, b"
    assert one_of([]) == "none"
    assert one_of(f"m{n:03}" for n in range(25)).endswith("m019 and 5 more")
