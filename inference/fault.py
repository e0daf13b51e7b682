"""What is wrong with one field, and how a caller's own value is quoted back: bounded, whatever it is."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

import msgspec

GIVEN_CHARS_MAX = 120  # a caller's own value is quoted back, never at length
_SHORT = reprlib.Repr()  # at most 4 to 6 items a level, 6 levels


class Fault(msgspec.Struct, frozen=True):
    """One field at fault: where, what was given, what is accepted."""

    field: str
    given: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.field}: given {self.given}, accepted {self.accepted}"


def quoted(value: object) -> str:
    """The caller's value as a bounded piece of text, made in bounded time whatever the value's size and depth."""
    if isinstance(value, str):
        text = repr(value[:GIVEN_CHARS_MAX])
    elif isinstance(value, (list, dict)):
        text = _SHORT.repr(value)
    else:
        text = repr(value)
    return text if len(text) <= GIVEN_CHARS_MAX else text[: GIVEN_CHARS_MAX - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is alike."""
    name = name[:GIVEN_CHARS_MAX]  # comparing takes time by the square of the length
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def one_of(known: Iterable[str]) -> str:
    """The sentence part that lists what is accepted, at most 20 names of it."""
    names = sorted(known)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"one of {', '.join(names[:20])}{more}" if names else "none"
