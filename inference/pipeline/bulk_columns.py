"""Columns of a table as numpy arrays: numbers, times and names, with what is missing in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from inference.fault import Fault, nearest, one_of
from inference.pipeline.sensor_window import time_us_of
from inference.tensor import Array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# RFC 3339 as arrow casts it to the same microsecond as `time_us_of`; any other text takes that way, one by one.
_MOMENT = r"^(?:1[7-9]|20|21)\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?"
_ZONED = _MOMENT + r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
_NAIVE = _MOMENT + "$"
_COMPUTE: Any = pyarrow.compute  # its functions are made when it is imported, where no checker of types sees them
NUMBER_TYPES = "integers or floating-point numbers"
TIME_TYPES = "timestamps, or text as in RFC 3339"
NAME_TYPES = "text or integers"


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold measurements; one that was null throughout has no other type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether it holds text, in any of the ways that there are."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether it holds bytes, in any of the ways that there are."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_time(kind: pa.DataType) -> bool:
    """Whether it holds moments."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_null(kind)) or is_text(kind)


def is_name(kind: pa.DataType) -> bool:
    """Whether it holds the names of lines."""
    return bool(pa.types.is_integer(kind) or pa.types.is_null(kind)) or is_text(kind)


def missing(name: str, model_name: str, schema: pa.Schema) -> str:
    """The sentence for a column that is not there."""
    meant = nearest(name, schema.names)
    hint = f"; {meant!r} was meant?" if meant else ""
    wanted = f" of the dataset; if it has another name there, say --column {model_name}=NAME"
    return f"column {name!r} is missing: given {one_of(schema.names)}, accepted a column {name!r}{wanted}{hint}"


def wrong_type(name: str, kind: pa.DataType, accepted: str) -> str:
    """The sentence for a column of a type that cannot be read."""
    return f"column {name!r}: given {kind}, accepted {accepted}"


def unknown_columns(given: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """A sentence for each name in --column that the model does not have."""
    problems = []
    for name in given:
        if name not in known:
            meant = nearest(name, known)
            hint = f"; {meant!r} was meant?" if meant else ""
            problems.append(f"--column {name}={given[name]}: given {name!r}, accepted {one_of(known)}{hint}")
    return problems


def numbers(column: pa.Array) -> Array:
    """FLOAT64 [n], NaN where a number is missing."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if column.null_count:
        column = column.cast(pa.float64(), safe=False).fill_null(np.nan)
    return column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def plain_numbers(column: pa.Array) -> pa.Array:
    """A column of numbers whose values become Python's own `int` and `float`."""
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column


def times_us(column: pa.Array) -> tuple[Array, Array]:
    """Microseconds since 1970, INT64 [n], and whether there is one, BOOL [n]. Times without a zone are UTC."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    if pa.types.is_timestamp(column.type):
        moments = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        known = np.ones(len(column), np.bool_) if not column.null_count else _bools(column.is_valid())
        return moments.fill_null(0).to_numpy(zero_copy_only=False), known
    return _times_of_text(plain_text(column))


def plain_text(column: pa.Array) -> pa.Array:
    """Text as arrow's plain strings; integers as they are written."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _times_of_text(column: pa.Array) -> tuple[Array, Array]:
    found, known = np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    for pattern, kind in ((_ZONED, pa.timestamp("us", "UTC")), (_NAIVE, pa.timestamp("us"))):
        fits = _bools(_COMPUTE.match_substring_regex(column, pattern).fill_null(False))
        if fits.any():
            texts = column if fits.all() else column.filter(pa.array(fits))
            try:
                found[fits] = texts.cast(kind).cast(pa.int64()).to_numpy(zero_copy_only=False)
            except pa.ArrowInvalid:  # the 30th of February: find which one
                continue
            known |= fits
        if known.all():
            return found, known
    for place in np.flatnonzero(~known):
        time_us = time_us_of(column[int(place)].as_py())
        if not isinstance(time_us, Fault):
            found[place], known[place] = time_us, True
    return found, known


def names(column: pa.Array) -> tuple[list[str], Array]:
    """The different names in a column, and for each row the place of its name in them, INT64 [n]; -1 for none."""
    if pa.types.is_null(column.type):
        return [], np.full(len(column), -1, np.int64)
    if not pa.types.is_dictionary(column.type):
        column = plain_text(column).dictionary_encode()
    places = column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used = np.flatnonzero(np.bincount(places[places >= 0], minlength=1)) if (places >= 0).any() else places[:0]
    known: dict[str | None, int] = {}
    new_places = np.full(len(column.dictionary) + 1, -1, np.int64)  # the last one stays for rows without a name
    for place, name in zip(used, column.dictionary.take(pa.array(used)).to_pylist(), strict=True):
        if name is not None:
            new_places[place] = known.setdefault(str(name), len(known))
    return [str(name) for name in known], new_places[places]


def _bools(column: Any) -> Array:
    return column.to_numpy(zero_copy_only=False)
