"""The product's own JSON: the body of `POST /api/inference/stream`, its answer, and the body of every error."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from inference.errors import InferenceError, MalformedBody
from inference.fault import Fault, quoted
from inference.protocols.json_body import check_levels, read_json

NESTING_MAX = 64  # lists within lists; numpy knows no more than 64 dimensions
VERSION_DIGITS_MAX = 18  # stays within a 64-bit integer

EXPECTED = (
    'a JSON object {"model_name": text, "data": object} with optional "model_version", "stream_id", "priority" and '
    '"timeout_ms"'
)


class StreamCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a call; what `data` holds depends on the model and is checked against it."""

    model_name: str
    data: dict[str, Any]
    model_version: str | int | None = None
    stream_id: str | None = None
    priority: str | None = None
    timeout_ms: float | None = None

    @property
    def version(self) -> int | None:
        """The version asked for, None for the one that is served by default. Raises MalformedBody."""
        return None if self.model_version is None else version_number(self.model_version)


class DefectProbability(msgspec.Struct, frozen=True):
    """The result of a model that answers with the probability of a defect.

    `confidence` is the calibrated probability that `decision` is right, lowered by a short history and by
    `input_quality` (see docs/confidence.md).
    """

    defect_probability: float
    confidence: float
    processing_time_ms: float
    decision: str  # the model's label for this side of its threshold
    input_quality: float = 1.0  # share of the sensor values that were measured rather than held
    real_rows: int = 1  # rows of the window that are known; the others repeat the first one


class DefectType(msgspec.Struct, frozen=True):
    """The result of a model that answers with one probability a class; `defect_type` is the most probable class."""

    defect_type: str
    confidence: float
    probabilities: dict[str, float]
    processing_time_ms: float


Result = DefectProbability | DefectType | dict[str, Any]  # dict: {output name: values} of a model without meaning
R = TypeVar("R")


class StreamAnswer(msgspec.Struct, Generic[R], frozen=True):
    """The answer to a call. `model_version` names the version that answered."""

    prediction_id: str
    model_name: str
    model_version: str
    result: R


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error: a sentence, a stable code, and each field at fault."""

    error: str
    reason: str
    details: tuple[Fault, ...] = ()


_CALL = msgspec.json.Decoder(StreamCall)
_ENCODER = msgspec.json.Encoder()
_OBJECTS = {"": StreamCall}
_ACCEPTED = {
    "model_name": "the name of a model, as text",
    "data": "an object with the values for the model",
    "model_version": "a version number, as text or integer",
    "stream_id": "the name of a production line, as text",
    "priority": "critical, high, normal or low",
    "timeout_ms": "milliseconds that the answer may take, as a number",
}


def decode_call(body: bytes) -> StreamCall:
    """The call in `body`. Raises MalformedBody or UnknownField, which name the field or the position."""
    check_levels(body)
    return read_json(_CALL, body, EXPECTED, _OBJECTS, _ACCEPTED)


def version_number(given: str | int) -> int:
    """A version as a number from what a caller wrote. Raises MalformedBody."""
    text = str(given) if isinstance(given, int) and abs(given) < 10**VERSION_DIGITS_MAX else given
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS_MAX:
        return int(text)
    fault = Fault("model_version", quoted(given), "a version number such as 1")
    raise MalformedBody(f"model_version is {fault.given}", fault.accepted, [fault])


def encode_answer(prediction_id: str, model_name: str, version: int, result: Result) -> bytes:
    """The body of an answer. Numbers of the result have to be finite."""
    return _ENCODER.encode(StreamAnswer(prediction_id, model_name, str(version), result))


def encode_error(error: InferenceError) -> bytes:
    """The body of an error."""
    return _ENCODER.encode(ErrorBody(str(error), error.reason, error.details))
