"""A body that does not fit is answered with what is wrong, where, and what is accepted."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InferenceError, MalformedBody, UnknownField
from inference.fault import Fault
from inference.protocols.json_body import read_json


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
        (b'{"name":1}', Fault("name", "int", "str")),
        (b'{"name":"one","wheels":[{"size":1.5}]}', Fault("wheels[0].size", "float", "int")),
        (b"[]", Fault("the body", "array", "object")),
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


def test_deep_nesting_is_refused_before_it_hurts() -> None:
    with pytest.raises(MalformedBody, match="nested too deeply"):
        read_json(msgspec.json.Decoder(), b"[" * 100_000, "a car", OBJECTS)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_get_past_as_another_error(body: bytes) -> None:
    with contextlib.suppress(InferenceError):
        assert isinstance(read(body), Car)
