"""What the processes of one server say to each other: rows of a line that are handed over, and their counters.

A frame is four bytes of length, big-endian, and a MessagePack array whose first item names its kind. A row's `data` is
JSON, since MessagePack has no integers beyond 64 bits and a caller may send one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from inference.errors import InferenceError
from inference.fault import Fault
from inference.protocols.call_limits import CallLimits
from inference.request import Priority

LENGTH_BYTES = 4
FRAME_BYTES_MAX = 64 * 1024 * 1024  # the largest row is JSON, of which the server reads 4 MiB by default


class FrameError(Exception):
    """Bytes that are no frame; what follows them has no meaning."""


class HandedRow(msgspec.Struct, frozen=True, array_like=True, tag="row"):
    """A row for a line of the process that it is sent to; `arrived_s` is a time of the clock that both share."""

    number: int
    model: str
    version: int
    stream_id: str
    data: bytes
    request_id: str
    arrived_s: float
    priority: int | None = None
    timeout_s: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What the caller sent as `data`."""
        return _FIELDS.decode(self.data)

    @property
    def limits(self) -> CallLimits:
        """What the caller said of its call."""
        return CallLimits(None if self.priority is None else Priority(self.priority), self.timeout_s)


class Withdrawal(msgspec.Struct, frozen=True, array_like=True, tag="withdrawal"):
    """The caller of a row has left."""

    number: int


class CountersWanted(msgspec.Struct, frozen=True, array_like=True, tag="counters_wanted"):
    """Everything that the process has counted, please."""

    number: int


class RowAnswer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """The body that the caller of a row reads."""

    number: int
    body: bytes


class RowRefusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """The error that ended a row."""

    number: int
    reason: str
    sentence: str
    details: tuple[Fault, ...] = ()
    retry_after_s: float | None = None

    @property
    def error(self) -> InferenceError:
        """The same error in this process, of the class that has this reason."""
        return error_again(self.reason, self.sentence, self.details, self.retry_after_s)


class Counters(msgspec.Struct, frozen=True, array_like=True, tag="counters"):
    """The counters of a process; what is in them is known to `monitoring.process_families`."""

    number: int
    families: bytes


Question = HandedRow | Withdrawal | CountersWanted
Reply = RowAnswer | RowRefusal | Counters
Frame = Question | Reply

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
_FIELDS = msgspec.json.Decoder(dict[str, Any])


def refusal(number: int, error: InferenceError) -> RowRefusal:
    """An error as the frame that carries it."""
    return RowRefusal(number, error.reason, str(error), error.details, error.retry_after_s)


def encoded(frame: Frame) -> bytes:
    """The bytes of a frame. Raises FrameError for one that is too large."""
    buffer = bytearray(LENGTH_BYTES)
    _ENCODER.encode_into(frame, buffer, LENGTH_BYTES)
    size = len(buffer) - LENGTH_BYTES
    if size > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {size} bytes, accepted at most {FRAME_BYTES_MAX}")
    buffer[:LENGTH_BYTES] = size.to_bytes(LENGTH_BYTES, "big")
    return bytes(buffer)


class FrameReader:
    """Puts frames together from the pieces in which they come; holds one frame at most."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that are whole with this piece. Raises FrameError, after which the connection is of no use."""
        held = self._held
        held += piece
        start = 0
        try:
            while len(held) - start >= LENGTH_BYTES:
                body = start + LENGTH_BYTES
                size = int.from_bytes(held[start:body], "big")
                if size > FRAME_BYTES_MAX:
                    raise FrameError(f"a frame of {size} bytes, accepted at most {FRAME_BYTES_MAX}")
                if len(held) < body + size:
                    return
                start = body + size
                try:
                    yield _DECODER.decode(held[body:start])
                except msgspec.DecodeError as error:
                    raise FrameError(str(error)) from error
        finally:
            del held[:start]


def error_again(reason: str, sentence: str, details: tuple[Fault, ...], retry_after_s: float | None) -> InferenceError:
    """An error of another process, of the class that has this reason."""
    kind = _class_with(reason, InferenceError) or InferenceError
    error = kind.__new__(kind)
    InferenceError.__init__(error, sentence, details)
    error.retry_after_s = retry_after_s
    return error


def _class_with(reason: str, base: type[InferenceError]) -> type[InferenceError] | None:
    if base.reason == reason:
        return base
    return next((found for child in base.__subclasses__() if (found := _class_with(reason, child))), None)
