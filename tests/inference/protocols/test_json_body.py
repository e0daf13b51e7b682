"""A body that does not fit is answered with what is wrong, where, and what is accepted."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InferenceError, MalformedBody, UnknownField
from inference.fault import Fault
from inference.protocols.json_body import LEVELS_MAX, check_levels, levels, read_json


class Wheel(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Car(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    wheels: list[Wheel] = []


DECODER = msgspec.json.Decoder(Car)
OBJECTS: dict[str, type[msgspec.Struct]] = {"": Car, "wheels": Wheel}


def read(body: bytes) -> Car:
    return read_json(DECODER, body, "a car", OBJECTS)


def test_a_body_that_fits_is_read() -> None:
    assert read(b'{"name":"one","wheels":[{"size":3}]}') == Car("one", [Wheel(3)])


def test_an_unknown_field_is_named_with_its_place_and_the_nearest_known_one() -> None:
    with pytest.raises(UnknownField) as caught:
        read(b'{"name":"one","wheels":[{"size":3},{"sise":3}]}')

    assert caught.value.details == (Fault("wheels[1].sise", "an unknown field", "'size' was meant?"),)


def test_an_unknown_field_at_the_top_is_named_too() -> None:
    with pytest.raises(UnknownField) as caught:
        read(b'{"name":"one","wheel":[]}')

    assert caught.value.details == (Fault("wheel", "an unknown field", "'wheels' was meant?"),)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{}", Fault("name", "nothing", "a required field")),
        (b'{"name":"one","wheels":[{}]}', Fault("wheels[0].size", "nothing", "a required field")),
        (b'{"name":1}', Fault("name", "of type int", "of type str")),
        (b'{"name":"one","wheels":[{"size":1.5}]}', Fault("wheels[0].size", "of type float", "of type int")),
        (b"[]", Fault("the body", "of type array", "of type object")),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(body: bytes, fault: Fault) -> None:
    with pytest.raises(MalformedBody) as caught:
        read(body)

    assert caught.value.details == (fault,)


@pytest.mark.parametrize("body", [b"", b"{", b'{"name":"\xff"}', b"\xff", b'{"name":NaN}', b'{"name":"a"} x'])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="Accepted: a car"):
        read(body)


def test_what_is_accepted_may_be_said_by_its_field() -> None:
    with pytest.raises(MalformedBody, match="name is missing") as missing:
        read_json(DECODER, b"{}", "a car", OBJECTS, {"name": "what it is called"})
    with pytest.raises(MalformedBody, match="name is of type int") as mistyped:
        read_json(DECODER, b'{"name":1}', "a car", OBJECTS, {"name": "what it is called"})

    assert [error.value.details[0].accepted for error in (missing, mistyped)] == ["what it is called"] * 2


def nested(opening: bytes, levels_: int, closing: bytes) -> bytes:
    return opening * levels_ + b"1" + closing * levels_


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused_before_it_is_parsed(opening: bytes, closing: bytes) -> None:
    check_levels(nested(opening, LEVELS_MAX, closing))
    for body in (nested(opening, LEVELS_MAX + 1, closing), opening * 100_000):
        with pytest.raises(MalformedBody, match="nested too deeply"):
            check_levels(body)


def test_what_is_parsed_all_the_same_ends_at_the_parsers_own_depth() -> None:
    with pytest.raises(MalformedBody, match="nested too deeply"):
        read_json(msgspec.json.Decoder(), b"[" * 100_000, "a car", OBJECTS)


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b"[" * 1000 + b'"]',
        b'["' + b"]" * 1000 + b'"]',
        b'["' + b'\\"[' * 1000 + b'"]',
        b"[" + b",".join([b"[1,2]"] * 1000) + b"]",
    ],
    ids=["opening brackets in a text", "closing ones", "behind quotes", "many beside one another"],
)
def test_many_brackets_are_not_deep(body: bytes) -> None:
    assert levels(body) <= 2
    check_levels(body)


def test_no_text_hides_the_depth() -> None:
    hidden = b'["' + b"]" * 500 + b'",' + nested(b"[", 100, b"]") + b"]"
    assert levels(hidden) == 101


@given(
    st.recursive(
        st.none() | st.text(alphabet='[]{}"\\ab', max_size=30),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text('[]{}"', max_size=3), children),
        max_leaves=200,
    ),
    st.integers(0, 100),
)
def test_levels_are_those_of_the_value(value: object, more: int) -> None:
    for _ in range(more):
        value = [value]

    def depth(item: object) -> int:
        if isinstance(item, dict):
            item = list(item.values())
        return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0

    found = levels(msgspec.json.encode(value))
    assert found == depth(value) or depth(value) <= found <= LEVELS_MAX


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_get_past_as_another_error(body: bytes) -> None:
    with contextlib.suppress(InferenceError):
        assert isinstance(read(body), Car)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("body", ['{"name":%s}', '{"name": %s }', '{"name":"a","wheels":[%s]}'])
def test_a_number_that_json_does_not_have_is_named(body: str, literal: str) -> None:
    with pytest.raises(MalformedBody, match=rf"JSON has no {literal} \(byte {body.index('%')}\)"):
        read_json(msgspec.json.Decoder(), (body % literal).encode(), "a car", {})
