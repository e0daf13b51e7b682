"""From nested lists of values to the tensors of a model that only declares its signature."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from inference.errors import InvalidValues, UnknownField, UnsupportedMedia
from inference.fault import Fault, quoted
from inference.model import Signature
from inference.pipeline.sample import Prepared, Sample, wrong_input
from inference.protocols.inference_json import NESTING_MAX
from inference.tensor import DTYPES, Array, Tensors, TensorSpec


class PlainTensors:
    """Takes {input name: values}, each nested as deep as the input has axes; a scalar input takes one value."""

    blocking = False

    def __init__(self, signature: Signature) -> None:
        self._inputs = signature.inputs

    def prepare(self, sample: Sample) -> Prepared:
        """The tensors with the declared datatypes. Raises UnknownField, InvalidValues, UnsupportedMedia."""
        if sample.image_file is not None:
            raise UnsupportedMedia("content-type", "an image", ["application/json"])
        if sample.stream_id is not None:
            raise UnknownField("", ["stream_id"], ["model_name", "model_version", "data"])
        return Prepared(self._tensors(sample.fields))

    def prepare_one(self, given: object) -> Prepared:
        """{input name: array or nested lists}, with the axes that the model declares. An array keeps its datatype."""
        return Prepared(self.prepare_many(given))

    def prepare_many(self, given: object) -> Tensors:
        """The same as for one: the model declares what its axes are."""
        if not isinstance(given, Mapping):
            raise wrong_input(given, "a mapping {input name: array}")
        return self._tensors(given)

    def _tensors(self, fields: Mapping[str, object]) -> Tensors:
        names = [spec.name for spec in self._inputs]
        unknown = [name for name in fields if name not in names]
        if unknown:
            raise UnknownField("data", unknown, names)
        tensors: Tensors = {}
        faults: list[Fault] = []
        for spec in self._inputs:
            tensor = tensor_of(spec, fields.get(spec.name))
            if isinstance(tensor, Fault):
                faults.append(tensor)
            else:
                tensors[spec.name] = tensor
        if faults:
            raise InvalidValues(faults)
        return tensors


def tensor_of(spec: TensorSpec, values: object) -> Array | Fault:
    """`values` as an array of the spec's datatype and rank, or what is wrong with them; an array stays as it is."""
    field = f"data.{spec.name}"
    accepted = f"{spec.datatype} {spec.protocol_shape}" if spec.shape else f"one {spec.datatype} value"
    depth = len(spec.shape)
    if not spec.ranked:
        accepted, depth = f"{spec.datatype} values, nested evenly", _depth(values)
    if isinstance(values, np.ndarray):
        return values
    if values is None:
        return Fault(field, "nothing", accepted)
    shape: list[int] = []
    leaves: list[Any] = [values]
    for axis in range(depth):
        if not all(type(leaf) is list for leaf in leaves):
            given = "values" if not any(type(leaf) is list for leaf in leaves) else "values beside lists"
            return Fault(field, f"{given} at depth {axis}", accepted)
        sizes = {len(leaf) for leaf in leaves}
        if len(sizes) > 1:
            return Fault(field, f"lists of {min(sizes)} to {max(sizes)} values at depth {axis}", accepted)
        shape.append(sizes.pop() if sizes else 0)
        leaves = list(chain.from_iterable(leaves))
    wrong = _wrong_leaf(spec.datatype, leaves)
    if wrong is not None:
        return Fault(field, wrong, accepted)
    return np.array(leaves, DTYPES[spec.datatype]).reshape(shape)


def _depth(values: object) -> int:
    """How deep the first value is nested: the number of axes where the model leaves it open."""
    depth = 0
    while isinstance(values, list) and depth < NESTING_MAX:
        values = values[0] if values else None
        depth += 1
    return depth


def _wrong_leaf(datatype: str, leaves: list[Any]) -> str | None:
    """The first value that the datatype cannot hold, as text."""
    dtype = DTYPES[datatype]
    kinds = {"b": (bool,), "O": (str,), "f": (int, float)}.get(dtype.kind, (int,))
    if not set(map(type, leaves)) <= set(kinds):
        return quoted(next(leaf for leaf in leaves if type(leaf) not in kinds))
    if dtype.kind in "bO" or not leaves:
        return None
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    number = float if dtype.kind == "f" else int
    low, high = number(limits.min), number(limits.max)
    # Python compares an int of any size with a float exactly, and NaN fails.
    return next((quoted(leaf) for leaf in leaves if not low <= leaf <= high), None)
