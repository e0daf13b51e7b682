"""A JSON body read into a typed struct; what does not fit is named with its place, as the product's own errors.

The body's size is bounded before it comes here, and msgspec bounds the nesting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from inference.errors import MalformedBody, UnknownField
from inference.fault import Fault

T = TypeVar("T")

_MESSAGE = re.compile(r"(?P<fault>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_MISTYPED = re.compile(r"Expected (?P<accepted>.*), got `(?P<given>.*)`", re.DOTALL)
_INDEX = re.compile(r"\[[^]]*\]")


def read_json(
    decoder: msgspec.json.Decoder[T],
    body: bytes | memoryview | msgspec.Raw,
    expected: str,
    objects: Mapping[str, type[msgspec.Struct]],
) -> T:
    """`body` as the decoder's type. Raises MalformedBody ("Accepted: `expected`") or UnknownField.

    `objects` maps a path without indexes ("" for the whole, "inputs" for `inputs[3]`) to the struct there, so that an
    unknown field can be answered with the nearest known one.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        fault, path = split_message(error)
        unknown = _UNKNOWN.fullmatch(fault)
        struct = objects.get(_INDEX.sub("", path))
        if unknown is not None and struct is not None:
            raise UnknownField(path, [unknown["name"]], struct.__struct_encode_fields__) from None
        raise MalformedBody(
            fault + (f" at {path}" if path else ""), expected, [_fault(fault, path, expected)]
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(str(error), expected) from None
    except RecursionError:
        raise MalformedBody("it is nested too deeply", expected) from None


def split_message(error: msgspec.ValidationError) -> tuple[str, str]:
    """What is wrong, and where: `inputs[0].name`, or "" for the whole."""
    match = _MESSAGE.fullmatch(str(error))
    assert match is not None
    path = (match["path"] or "").removeprefix("$")
    return match["fault"], path.removeprefix(".")


def _fault(fault: str, path: str, expected: str) -> Fault:
    missing = _MISSING.fullmatch(fault)
    if missing is not None:
        return Fault(f"{path}.{missing['name']}" if path else missing["name"], "nothing", "a required field")
    mistyped = _MISTYPED.fullmatch(fault)
    if mistyped is not None:
        return Fault(path or "the body", mistyped["given"], mistyped["accepted"].replace("`", ""))
    return Fault(path or "the body", fault, expected)
