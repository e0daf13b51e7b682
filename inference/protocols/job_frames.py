"""What a server process and the host of its jobs say to each other over their socket.

The server sends commands, which the host answers with replies, and with events before them where that was asked for.
The host sends batches of rows, which the server answers with their outputs. Each side numbers its own questions; an
answer carries the number of its question, and comes in any order.

A frame is the length of the header (4 bytes) and of the body (8 bytes), little endian, the header in MessagePack, zeros
up to a multiple of 64 bytes, and the body: tensors as in `child_frames`. What the other side sent is checked before it
is used.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from inference import job_errors  # noqa: F401 - so that its classes are known to `error_again`
from inference.device import Device
from inference.errors import InferenceError
from inference.fault import Fault
from inference.model import Signature
from inference.protocols.child_frames import (
    ALIGNMENT_BYTES,
    PREFIX,
    FrameInvalid,
    TensorHead,
    read_tensors,
    tensor_heads,
)
from inference.protocols.handover_frames import error_again
from inference.start_errors import StartError
from inference.tensor import Array, Tensors

HEADER_BYTES_MAX = 64 * 1024 * 1024  # inline rows of a job are in it, and the strings of tensors
BODY_BYTES_MAX = 1 << 30  # a batch of 16,384 rows of 64 KB; a larger one is a damaged prefix

Verb = Literal["create", "show", "list", "cancel", "pause", "resume", "delete", "results", "events"]


class Command(msgspec.Struct, frozen=True, tag=True):
    """To the host: do this. `content` is JSON, as the verb has it. It answers Reply or Refused."""

    number: int
    verb: Verb
    content: bytes


class Reply(msgspec.Struct, frozen=True, tag=True):
    """What came of a command, as JSON."""

    number: int
    content: bytes


class Event(msgspec.Struct, frozen=True, tag=True):
    """Something that happened to a job, for whoever asked by the command of this number. `content` is JSON."""

    number: int
    kind: str
    content: bytes


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Either way: the error that ended a question. `problems` are those of a StartError."""

    number: int
    reason: str
    sentence: str
    details: tuple[Fault, ...] = ()
    retry_after_s: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def error(self) -> InferenceError:
        """The same error in this process, of the class that has this reason."""
        error = error_again(self.reason, self.sentence, self.details, self.retry_after_s)
        if isinstance(error, StartError):
            error.problems = self.problems
        return error


class Withdraw(msgspec.Struct, frozen=True, tag=True):
    """Either way: nobody waits for the answer to this question any more. There may be one, or none."""

    number: int


class FindModel(msgspec.Struct, frozen=True, tag=True):
    """To the server: which version is this, None for the newest? It answers FoundModel or Refused."""

    number: int
    name: str
    version: int | None = None


class FoundModel(msgspec.Struct, frozen=True, tag=True):
    """A version that is served. `batch_rows`: of a full batch as it was measured; None if it takes no batches."""

    number: int
    name: str
    version: int
    sha256: str
    signature: Signature
    device: Device
    batch_rows: int | None


class RunRows(msgspec.Struct, frozen=True, tag=True):
    """To the server: predict these rows, when there is time. It answers RanRows or Refused."""

    number: int
    name: str
    version: int
    tensors: tuple[TensorHead, ...]


class RanRows(msgspec.Struct, frozen=True, tag=True):
    """All outputs of the rows of a RunRows."""

    number: int
    tensors: tuple[TensorHead, ...]


Frame = Command | Reply | Event | Refused | Withdraw | FindModel | FoundModel | RunRows | RanRows

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def refused(number: int, error: InferenceError) -> Refused:
    """An error as the frame that carries it."""
    problems = error.problems if isinstance(error, StartError) else ()
    return Refused(number, error.reason, str(error), error.details, error.retry_after_s, problems)


def encoded(frame: Frame) -> list[memoryview]:
    """The bytes of a frame without tensors. Raises FrameInvalid for one that is too large."""
    return _pieces(frame, [])


def rows_to_run(number: int, name: str, version: int, inputs: Tensors) -> list[memoryview]:
    """A RunRows, as pieces to send in order; contiguous tensors are not copied. Raises FrameInvalid if too large."""
    heads, body = tensor_heads(inputs)
    return _pieces(RunRows(number, name, version, heads), body)


def rows_that_ran(number: int, outputs: Tensors) -> list[memoryview]:
    """A RanRows; see `rows_to_run`."""
    heads, body = tensor_heads(outputs)
    return _pieces(RanRows(number, heads), body)


def _pieces(frame: Frame, body: list[memoryview]) -> list[memoryview]:
    header = _ENCODER.encode(frame)
    body_bytes = sum(piece.nbytes for piece in body)
    _check_sizes(len(header), body_bytes)
    padding = bytes(-len(header) % ALIGNMENT_BYTES)
    return [memoryview(PREFIX.pack(len(header), body_bytes) + header + padding), *body]


def _check_sizes(header_bytes: int, body_bytes: int) -> None:
    if header_bytes > HEADER_BYTES_MAX or body_bytes > BODY_BYTES_MAX:
        accepted = f"at most {HEADER_BYTES_MAX} and {BODY_BYTES_MAX}"
        raise FrameInvalid(f"a header of {header_bytes} and a body of {body_bytes} bytes, accepted {accepted}")


class FrameReader:
    """Puts frames together where their bytes are received: fill `space` from its beginning, then say how far.

    Holds one frame at most. After FrameInvalid what follows has no meaning.
    """

    def __init__(self) -> None:
        self._prefix: Array = np.empty(PREFIX.size, np.uint8)
        self._header_bytes = 0
        self._begin(self._prefix)

    @property
    def space(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._held.data[self._filled :]

    def filled(self, count: int) -> tuple[Frame, Tensors] | None:
        """`count` bytes of `space` have been filled. The frame that is whole now, with its tensors, if one is."""
        self._filled += count
        if self._filled < self._held.nbytes:
            return None
        if self._held is not self._prefix:
            content = self._held
            self._begin(self._prefix)
            return self._frame(content)
        self._header_bytes, body_bytes = PREFIX.unpack(self._prefix.tobytes())
        _check_sizes(self._header_bytes, body_bytes)
        if not self._header_bytes:
            raise FrameInvalid("a frame without a header")
        self._begin(np.empty(_padded(self._header_bytes) + body_bytes, np.uint8))
        return None

    def _begin(self, buffer: Array) -> None:
        self._held = buffer
        self._filled = 0

    def _frame(self, content: Array) -> tuple[Frame, Tensors]:
        try:
            frame = _DECODER.decode(content[: self._header_bytes].data)
        except msgspec.DecodeError as error:
            raise FrameInvalid(f"the header cannot be read: {error}") from error
        heads = frame.tensors if isinstance(frame, (RunRows, RanRows)) else ()
        return frame, read_tensors(heads, content[_padded(self._header_bytes) :])


def _padded(header_bytes: int) -> int:
    return header_bytes + -header_bytes % ALIGNMENT_BYTES
