"""Tensors on the wire of the Open Inference Protocol: as JSON, and as binary blobs.

JSON is flat in row-major order, or nested as the shape says. Binary is little-endian, row-major, without padding; a
BYTES element is its length as uint32 and its bytes (binary tensor data extension). Nothing is rounded or cut to fit: a
number that overflows the datatype, a bool among numbers, a number among bools or a count that is not the shape's is
refused, with its place.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from inference.errors import InvalidTensor
from inference.fault import Fault, quoted
from inference.model import ModelKey
from inference.protocols.json_body import split_message
from inference.tensor import DTYPES, Array, element_count

NO_JSON_FORM = frozenset({"FP16"})

_OPENING = re.compile(rb"[\s\[]*")
_SCALARS: dict[str, type[Any]] = {"BOOL": bool, "BYTES": str, "FP32": float, "FP64": float}
_ACCEPTED: dict[type[Any], str] = {bool: "true or false", str: "strings", float: "numbers", int: "whole numbers"}
_LENGTH = struct.Struct("<I")
# "=": native order, standard sizes; "@" would let floats overflow to infinity.
_STRUCT_FORMATS = {
    "BOOL": "?",
    "FP32": "f",
    "FP64": "d",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
}


class WireTensor(NamedTuple):
    """One input as the request declares it, before its elements are read. The datatype is known, no size is 0."""

    model: ModelKey
    name: str
    datatype: str
    shape: tuple[int, ...]

    def refused(self, field: str, given: str, accepted: str) -> InvalidTensor:
        """The error that says what is wrong with this input."""
        return InvalidTensor(str(self.model), [Fault(f"{self.name}.{field}", given, accepted)])

    def from_json(self, raw: msgspec.Raw) -> Array:
        """The array of this datatype and shape that the JSON text holds. Raises InvalidTensor."""
        if self.datatype in NO_JSON_FORM:
            accepted = "its bytes behind the JSON, with parameters.binary_data_size: FP16 has no JSON form"
            raise self.refused("data", "FP16 as JSON", accepted)
        try:
            values = _FLAT_DECODERS[self.datatype].decode(raw)
        except msgspec.MsgspecError as error:
            return self._from_nested_json(raw, error)
        shape = self.shape
        if len(values) != element_count(shape):
            accepted = f"{element_count(shape)} elements for shape {list(shape)}, flat or nested"
            raise self.refused("data", f"{len(values)} elements", accepted)
        try:
            return _flat_array(values, self.datatype, shape)
        except (OverflowError, struct.error):
            raise self._overflow(values) from None

    def from_binary(self, blob: memoryview) -> Array:
        """An array of its own with the blob's elements. Raises InvalidTensor."""
        if self.datatype == "BYTES":
            return self._from_strings(blob)
        dtype = DTYPES[self.datatype]
        byte_count = element_count(self.shape) * dtype.itemsize
        if len(blob) != byte_count:
            accepted = f"{byte_count} for {self.datatype} {list(self.shape)}"
            raise self.refused("parameters.binary_data_size", str(len(blob)), accepted)
        if dtype.kind == "b":
            octets = np.frombuffer(blob, np.uint8)
            if octets.max() > 1:
                place = int(octets.argmax())
                raise self.refused(f"bytes[{place}]", str(octets[place]), "0 for false, 1 for true")
        # A copy: the blob begins anywhere in the body, and a session wants aligned memory.
        return np.frombuffer(blob, dtype.newbyteorder("<")).astype(dtype).reshape(self.shape)

    def _from_nested_json(self, raw: msgspec.Raw, flat_error: msgspec.MsgspecError) -> Array:
        """The nested form; a text that is not nested is refused for what kept it from being flat."""
        opening = _OPENING.match(memoryview(raw))
        depth = opening[0].count(b"[") if opening else 0
        if depth == 1:
            raise self._misread(flat_error)
        if depth != len(self.shape):
            given = f"lists nested {depth} deep" if depth else "no list"
            accepted = f"a flat list, or lists nested {len(self.shape)} deep, as shape {list(self.shape)} says"
            raise self.refused("data", given, accepted)
        values: Any = None
        try:
            values = _decoder(_SCALARS.get(self.datatype, int), depth).decode(raw)
            array = _nested_array(values, DTYPES[self.datatype])
        except msgspec.MsgspecError as error:
            raise self._misread(error) from None
        except (OverflowError, FloatingPointError):
            raise self._overflow(values) from None
        except ValueError:  # numpy: lists of unequal lengths
            array = None
        if array is not None and array.shape == self.shape:
            return array
        ragged = array is None or array.ndim != depth  # strings are objects to numpy, as ragged lists are
        given = "lists of unequal lengths" if array is None or ragged else f"lists nested as shape {list(array.shape)}"
        raise self.refused("data", given, f"lists nested as shape {list(self.shape)} says, or a flat list")

    def _misread(self, error: msgspec.MsgspecError) -> InvalidTensor:
        if not isinstance(error, msgspec.ValidationError):
            return self.refused("data", str(error), "well-formed JSON")
        fault, path = split_message(error)
        given = fault.rpartition("got ")[2].strip("`")
        return self.refused(f"data{path}", given, _ACCEPTED[_SCALARS.get(self.datatype, int)])

    def _overflow(self, values: Any) -> InvalidTensor:
        """Names the first number that the datatype cannot hold."""
        dtype = DTYPES[self.datatype]
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        low, high = (float(limits.min), float(limits.max)) if dtype.kind == "f" else (limits.min, limits.max)
        field, value = next(leaf for leaf in _leaves(values, "data") if not low <= leaf[1] <= high)
        return self.refused(field, quoted(value), f"{self.datatype} values, {low} to {high}")

    def _from_strings(self, blob: memoryview) -> Array:
        count = element_count(self.shape)
        texts: list[str] = []
        place = 0
        while place < len(blob):
            start = place + _LENGTH.size
            length = _LENGTH.unpack_from(blob, place)[0] if start <= len(blob) else 0
            if start + length > len(blob):
                given = f"{len(blob) - place} bytes left"
                raise self.refused(f"bytes[{len(texts)}]", given, "4 bytes of length, and as many bytes as it says")
            try:
                texts.append(str(blob[start : start + length], "utf-8"))
            except UnicodeDecodeError as error:
                raise self.refused(f"bytes[{len(texts)}]", str(error), "text in UTF-8") from None
            place = start + length
        if len(texts) != count:
            raise self.refused("bytes", f"{len(texts)} elements", f"{count} for shape {list(self.shape)}")
        return _flat_array(texts, "BYTES", self.shape)


def to_json(array: Array) -> list[Any]:
    """The elements in row-major order; an FP32 element as the exact value of its float32, which reads back unchanged.

    JSON has neither NaN nor infinity: the caller has made sure that there is none.
    """
    return array.ravel().tolist()


def to_binary(array: Array) -> bytes:
    """The tensor's binary form, NaN and infinity as they are."""
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(text)) + text for text in (item.encode() for item in array.ravel()))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _flat_array(values: list[Any], datatype: str, shape: tuple[int, ...]) -> Array:
    """An array of the values, as many as the shape says.

    Raises OverflowError or struct.error for a number that the datatype cannot hold.
    """
    if datatype == "BYTES":
        return np.fromiter(values, np.object_, len(values)).reshape(shape)
    array = np.empty(shape, DTYPES[datatype])
    # Half the time of numpy's own way, and the overflow is noticed for nothing.
    _packer(datatype, len(values)).pack_into(array.data, 0, *values)
    return array


@functools.lru_cache(maxsize=256)
def _packer(datatype: str, count: int) -> struct.Struct:
    return struct.Struct(f"={count}{_STRUCT_FORMATS[datatype]}")


@np.errstate(over="raise")  # a number beyond FP32 would become infinity
def _nested_array(values: Any, dtype: np.dtype[Any]) -> Array:
    return np.array(values, dtype)


@functools.lru_cache(maxsize=256)  # 4 kinds of element x 64 dimensions
def _decoder(scalar: type[Any], depth: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(functools.reduce(lambda kind, _: list[kind], range(depth), scalar))


_FLAT_DECODERS = {datatype: _decoder(_SCALARS.get(datatype, int), 1) for datatype in DTYPES}


def _leaves(values: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, values
