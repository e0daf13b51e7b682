"""Frames between a server and the child process that holds a model: a prefix, a msgpack header, the tensors' bytes.

A prefix is the length of the header (4 bytes) and of the body (8 bytes), little endian. The body holds each tensor in
turn, the next one beginning at a multiple of 64 bytes; strings lie in the header. A header is one of the
messages below. What the other side sent is checked before it is used: the process may be damaged.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
import numpy as np

from inference.device import Device
from inference.model import Signature
from inference.settings import RuntimeSettings
from inference.tensor import DATATYPES, DTYPES, Array, Tensors, element_count

PREFIX = struct.Struct("<IQ")
ALIGNMENT_BYTES = 64  # a cache line; no datatype needs more
HEADER_BYTES_MAX = 256 * 1024 * 1024  # strings are in it: four times the largest body of a request
BODY_BYTES_MAX = 1 << 36  # 64 GiB; a larger one is a damaged prefix


class TensorHead(msgspec.Struct, frozen=True):
    """A tensor without its bytes; `strings` in its place for BYTES."""

    name: str
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    strings: list[str] | None = None

    @property
    def nbytes(self) -> int:
        """Its bytes in the body."""
        return 0 if self.strings is not None else element_count(self.shape) * DTYPES[self.datatype].itemsize


class Load(msgspec.Struct, frozen=True, tag=True):
    """To the child: load this file. It answers Loaded or LoadRefused."""

    onnx_file: str
    options: RuntimeSettings


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model runs."""

    signature: Signature
    device: Device


class LoadRefused(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be loaded, with every reason."""

    problems: tuple[str, ...]


class Run(msgspec.Struct, frozen=True, tag=True):
    """To the child: run these inputs. It answers Ran or RunRaised."""

    tensors: tuple[TensorHead, ...]


class Ran(msgspec.Struct, frozen=True, tag=True):
    """All outputs."""

    tensors: tuple[TensorHead, ...]


class RunRaised(msgspec.Struct, frozen=True, tag=True):
    """The runtime raised; the process is well."""

    cause: str


Message = Load | Loaded | LoadRefused | Run | Ran | RunRaised
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class FrameInvalid(ValueError):
    """What came is no frame, or one that contradicts itself."""


def frame(message: Message, body: list[memoryview] | None = None) -> list[memoryview]:
    """The pieces to send, in their order."""
    header = _encoder.encode(message)
    body = body or []
    prefix = PREFIX.pack(len(header), sum(piece.nbytes for piece in body))
    return [memoryview(prefix + header), *body]


def tensor_heads(tensors: Tensors) -> tuple[tuple[TensorHead, ...], list[memoryview]]:
    """The heads of these tensors, and the pieces of the body that hold them; contiguous ones are not copied."""
    heads: list[TensorHead] = []
    pieces: list[memoryview] = []
    for name, array in tensors.items():
        datatype = DATATYPES[array.dtype]
        if datatype == "BYTES":
            heads.append(TensorHead(name, datatype, array.shape, array.ravel().tolist()))
            continue
        heads.append(TensorHead(name, datatype, array.shape))
        flat = np.asarray(array, order="C").reshape(-1).view(np.uint8)
        pieces.append(flat.data)
        if padding := -flat.nbytes % ALIGNMENT_BYTES:
            pieces.append(memoryview(bytes(padding)))
    return tuple(heads), pieces


def read_prefix(prefix: bytes | bytearray) -> tuple[int, int]:
    """Bytes of the header and of the body that follow. Raises FrameInvalid."""
    header_bytes, body_bytes = PREFIX.unpack(prefix)
    if header_bytes > HEADER_BYTES_MAX or body_bytes > BODY_BYTES_MAX:
        raise FrameInvalid(f"a header of {header_bytes} and a body of {body_bytes} bytes are announced")
    return header_bytes, body_bytes


def read_header(header: bytes | bytearray) -> Message:
    """The message. Raises FrameInvalid."""
    try:
        return _decoder.decode(header)
    except msgspec.DecodeError as error:
        raise FrameInvalid(f"the header cannot be read: {error}") from error


def read_tensors(heads: tuple[TensorHead, ...], body: Array) -> Tensors:
    """The tensors, as views into `body` (UINT8, one dimension). Raises FrameInvalid unless they fill it."""
    tensors: Tensors = {}
    start = 0
    for head in heads:
        try:
            stop = start + head.nbytes
            tensors[head.name] = _tensor(head, body[start:stop])
        except (KeyError, ValueError, TypeError) as error:
            raise FrameInvalid(f"tensor {head.name!r} cannot be read: {error}") from error
        start = stop + -stop % ALIGNMENT_BYTES
    if start != body.nbytes:
        raise FrameInvalid(f"the tensors take {start} bytes of {body.nbytes}")
    return tensors


def _tensor(head: TensorHead, content: Array) -> Array:
    if head.strings is None:
        return content.view(DTYPES[head.datatype]).reshape(head.shape)
    strings = np.empty(len(head.strings), np.object_)
    strings[:] = head.strings
    return strings.reshape(head.shape)
