"""Datatypes of the Open Inference Protocol and their numpy and ONNX names; the spec of one tensor."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.fault import Fault

Array = NDArray[Any]
Tensors = dict[str, Array]

# Open Inference Protocol name -> numpy dtype. BYTES tensors are object arrays of `str` (ONNX strings are UTF-8).
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
DATATYPES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

# ONNX Runtime's name of a tensor type -> Open Inference Protocol name.
ONNX_TYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

Dim = int | str | None  # a fixed size, a named size, or an unknown one


class TensorSpec(msgspec.Struct, frozen=True):
    """Name, datatype and shape of one input or output. A scalar has the empty shape.

    `ranked` is False where the model leaves even the number of dimensions open; the empty shape then says nothing.
    """

    name: str
    datatype: str
    shape: tuple[Dim, ...]
    ranked: bool = True

    @property
    def protocol_shape(self) -> list[int]:
        """The shape as the protocol writes it: -1 where the size is not fixed."""
        return [dim if isinstance(dim, int) else -1 for dim in self.shape]

    def faults(self, array: Array, sizes: dict[str, int]) -> list[Fault]:
        """What keeps `array` from being this tensor. Named sizes are bound in `sizes`: they agree over all inputs."""
        datatype = DATATYPES.get(array.dtype) or str(array.dtype)
        if datatype != self.datatype:
            return [Fault(f"{self.name}.datatype", datatype, self.datatype)]
        if not self.ranked:
            return []
        if array.ndim != len(self.shape):
            return [
                Fault(
                    f"{self.name}.shape",
                    str(list(array.shape)),
                    f"{self.protocol_shape} ({len(self.shape)} dimensions)",
                )
            ]
        faults = []
        for axis, (size, dim) in enumerate(zip(array.shape, self.shape, strict=True)):
            wanted = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
            if wanted is not None and size != wanted:
                named = f" ({dim!r} as in the other inputs)" if isinstance(dim, str) else ""
                faults.append(Fault(f"{self.name}.shape[{axis}]", str(size), f"{wanted}{named}"))
            elif size == 0:
                faults.append(Fault(f"{self.name}.shape[{axis}]", "0", "at least 1"))
        return faults


def element_count(shape: tuple[int, ...] | list[int]) -> int:
    """Number of elements of a shape, exact for any size (1 for a scalar)."""
    return math.prod(shape)


def byte_count(tensors: Tensors) -> int:
    """Bytes that these tensors hold; a string counts its characters and a pointer."""
    total = 0
    for array in tensors.values():
        total += array.nbytes
        if array.dtype == np.object_:
            total += sum(map(len, array.ravel()))
    return total
