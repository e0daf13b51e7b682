"""A JSON body read into a typed struct; what does not fit is named with its place, as the product's own errors.

The body's size is bounded before it comes here, and its nesting before it is parsed where a part of it may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
import numpy as np

from inference.errors import MalformedBody, UnknownField
from inference.fault import Fault

T = TypeVar("T")

LEVELS_MAX = 72  # of lists and objects within one another: numpy's 64 dimensions, and what a request has around them

_MESSAGE = re.compile(r"(?P<fault>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_MISTYPED = re.compile(r"Expected (?P<accepted>.*), got `(?P<given>.*)`", re.DOTALL)
_INDEX = re.compile(r"\[[^]]*\]")
_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_PLACE = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"[^NI-]?(NaN|-?Infinity)")
_TOO_DEEP = "it is nested too deeply"
_NOTHING_MORE: Mapping[str, str] = {}


def read_json(
    decoder: msgspec.json.Decoder[T],
    body: bytes | memoryview | msgspec.Raw,
    expected: str,
    objects: Mapping[str, type[msgspec.Struct]],
    accepted: Mapping[str, str] = _NOTHING_MORE,
) -> T:
    """`body` as the decoder's type. Raises MalformedBody ("Accepted: `expected`") or UnknownField.

    `objects` maps a path without indexes ("" for the whole, "inputs" for `inputs[3]`) to the struct there, so that an
    unknown field can be answered with the nearest known one. `accepted` says of a path what it takes, where that is
    more than its type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        fault, path = split_message(error)
        unknown = _UNKNOWN.fullmatch(fault)
        struct = objects.get(_INDEX.sub("", path))
        if unknown is not None and struct is not None:
            raise UnknownField(path, [unknown["name"]], struct.__struct_encode_fields__) from None
        raise _misfit(fault, path, expected, accepted) from None
    except msgspec.DecodeError as error:
        raise MalformedBody(_no_json(bytes(body), str(error)), expected) from None
    except UnicodeDecodeError:
        raise MalformedBody("a text in it is not UTF-8", expected) from None
    except RecursionError:
        raise MalformedBody(_TOO_DEEP, expected) from None


def check_levels(body: bytes) -> None:
    """Raise MalformedBody for a body whose values of any shape would be too deep for what reads them."""
    if levels(body) > LEVELS_MAX:
        raise MalformedBody(_TOO_DEEP, f"{LEVELS_MAX} levels of lists and objects at most")


def levels(body: bytes) -> int:
    """How deep lists and objects stand within one another, or a larger number up to LEVELS_MAX.

    Of what is no JSON it is any number: the parser says what is wrong with it.
    """
    openings = body.count(b"[") + body.count(b"{")
    if openings <= LEVELS_MAX:
        return openings
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = np.frombuffer(unescaped.translate(None, _NO_MARKS), np.uint8)
    inside_text = np.bitwise_and(np.cumsum(marks == ord('"'), dtype=np.int32), 1, dtype=np.int32)
    steps = _STEPS[marks] * (1 - inside_text)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def split_message(error: msgspec.ValidationError) -> tuple[str, str]:
    """What is wrong, and where: `inputs[0].name`, or "" for the whole."""
    match = _MESSAGE.fullmatch(str(error))
    assert match is not None
    path = (match["path"] or "").removeprefix("$")
    return match["fault"], path.removeprefix(".")


def _no_json(body: bytes, message: str) -> str:
    """What is wrong with bytes that are no JSON; the usual mistakes by their name."""
    if not body.strip():
        return "it is empty"
    place = _PLACE.search(message)
    if place is not None and (literal := _NO_NUMBER.match(body, max(0, int(place[1]) - 1))):
        return f"JSON has no {literal[1].decode()} (byte {literal.start(1)})"
    return message.removeprefix("JSON is malformed: ")


def _misfit(fault: str, path: str, expected: str, accepted: Mapping[str, str]) -> MalformedBody:
    """The error for a value that does not fit its place."""
    missing = _MISSING.fullmatch(fault)
    if missing is not None:
        place = f"{path}.{missing['name']}" if path else missing["name"]
        missed = Fault(place, "nothing", accepted.get(place, "a required field"))
        return MalformedBody(f"{place} is missing", expected, [missed])
    place = path or "the body"
    mistyped = _MISTYPED.fullmatch(fault)
    if mistyped is not None:
        given, kind = f"of type {mistyped['given']}", f"of type {mistyped['accepted'].replace('`', '')}"
        return MalformedBody(f"{place} is {given}", expected, [Fault(place, given, accepted.get(place, kind))])
    return MalformedBody(fault + (f" at {path}" if path else ""), expected, [Fault(place, fault, expected)])
