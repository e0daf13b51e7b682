"""Every error of the product, with the sentence that the caller reads.

A class takes facts and writes the sentence once, so that HTTP, a log line and a report say the same. `reason` is a
short stable code for programs; `details` names each field at fault with what was given and what is accepted. Only
`servers/` know status codes.

InferenceError
├── CallerError                 the caller can mend it
│   ├── MalformedBody           the body cannot be read as what it says it is
│   ├── UnknownField            a field that nobody reads
│   ├── InvalidValues           values missing, of the wrong type, or out of range
│   ├── InvalidTensor           tensors that do not fit the model's signature
│   ├── InputsRejected          the model itself cannot run these inputs, and runs others
│   ├── InvalidImage            an image that cannot be decoded
│   ├── NotFound                ModelNotFound, VersionNotFound, RouteNotFound
│   ├── MethodNotAllowed
│   ├── MalformedHandshake      a request that asks for a WebSocket and does not follow its standard
│   ├── ForeignOrigin           a WebSocket asked for by a page of another site
│   ├── RowConflict             another row of this line has the same timestamp and other values
│   ├── RowTooLate              the line's window no longer reaches back to this row
│   ├── TooLarge                a body, request or image above its limit
│   ├── UnsupportedMedia        a content type, encoding or image format that is not read
│   └── Unsupported             a protocol feature that this server does not have
├── Unavailable                 nothing was done; trying later may help
│   ├── QueueFull               the queue is at its bound of rows or bytes
│   ├── DeadlineUnreachable     too much is ahead of it to be answered in time
│   ├── LineUnavailable         the process that a line belongs to is not there
│   ├── Stopping
│   └── ModelNotReady
├── DeadlinePassed              accepted, and not answered in time
├── RunFailed                   the model failed on inputs that are not to blame
│   ├── RunHung                 the run took so long that it was given up
│   └── RunCrashed              the process that ran the model died
└── NonFiniteOutput             the model answered NaN or infinity

What keeps a command from going on is in `inference.start_errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from inference.fault import Fault, nearest, one_of, quoted

FAULTS_MAX = 20  # unknown fields that one error names


class InferenceError(Exception):
    """Base of all errors that the product reports to somebody.

    Attributes: `reason` (stable code), `details` (the faults, may be empty), `retry_after_s` (seconds after which a
    retry makes sense, or None).
    """

    reason: ClassVar[str] = "internal_error"
    retry_after_s: float | None = None

    def __init__(self, sentence: str, details: Sequence[Fault] = ()) -> None:
        super().__init__(sentence)
        self.details = tuple(details)


class CallerError(InferenceError):
    """Something in the call is wrong; the same call again fails again."""

    reason = "bad_request"


class MalformedBody(CallerError):
    """The body cannot be read as `expected`."""

    reason = "malformed_body"

    def __init__(self, fault: str, expected: str, details: Sequence[Fault] = ()) -> None:
        super().__init__(f"The body is malformed: {fault}. Accepted: {expected}.", details)


class UnknownField(CallerError):
    """A field that is not read is refused, so that a misspelt one is noticed."""

    reason = "unknown_field"

    def __init__(self, where: str, names: Sequence[str], known: Iterable[str]) -> None:
        known, place = sorted(known), f"{where}." if where else ""
        faults = []
        for name in names[:FAULTS_MAX]:
            hint = nearest(name, known)
            accepted = f"{hint!r} was meant?" if hint else one_of(known)
            faults.append(Fault(f"{place}{quoted(name)[1:-1]}", "an unknown field", accepted))
        listed = ", ".join(quoted(name) for name in names[:5])
        super().__init__(f"Unknown field {listed} in {where or 'the body'}. Accepted: {one_of(known)}.", faults)


class InvalidValues(CallerError):
    """Values missing, not of the right type, or out of the model's range; every one is named."""

    reason = "invalid_values"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("Invalid values: " + "; ".join(str(f) for f in faults[:8]) + ".", faults)


class InvalidTensor(CallerError):
    """Input tensors do not fit the model's signature; every mismatch is named."""

    reason = "invalid_tensor"

    def __init__(self, model: str, faults: Sequence[Fault]) -> None:
        super().__init__(f"Inputs do not fit model {model}: " + "; ".join(str(f) for f in faults[:8]) + ".", faults)


class InputsRejected(CallerError):
    """The model failed on these inputs while its example still runs, so the inputs are to blame."""

    reason = "inputs_rejected"

    def __init__(self, model: str, cause: str) -> None:
        super().__init__(f"Model {model} cannot run these inputs: {cause[:300]}")


class InvalidImage(CallerError):
    """Bytes that are not a readable image."""

    reason = "invalid_image"

    def __init__(self, fault: str, formats: Iterable[str]) -> None:
        accepted = f"a whole {' or '.join(formats)} image"
        super().__init__(
            f"The image cannot be decoded: {fault}. Accepted: {accepted}.", [Fault("image", fault, accepted)]
        )


class NotFound(CallerError):
    """What the path or the body names is not here."""

    reason = "not_found"


class ModelNotFound(NotFound):
    """No model of this name is served."""

    reason = "model_not_found"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = nearest(name, known)
        meant = f" Did you mean {hint!r}?" if hint else ""
        faults = [Fault("model_name", quoted(name), one_of(known))]
        served = ", ".join(known[:20]) or "none"
        super().__init__(f"Request for unknown model: {quoted(name)} is not found.{meant} Served: {served}.", faults)


class VersionNotFound(NotFound):
    """The model is served, this version of it is not."""

    reason = "version_not_found"

    def __init__(self, name: str, version: str, served: Iterable[int]) -> None:
        accepted = one_of(str(v) for v in served)
        faults = [Fault("model_version", quoted(version), accepted)]
        super().__init__(
            f"Request for unknown model version: {name!r} version {quoted(version)} is not found. Served: {accepted}.",
            faults,
        )


class RouteNotFound(NotFound):
    """No such path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Not Found: {quoted(path)}. The paths of this server are listed at /openapi.json.")


class MethodNotAllowed(CallerError):
    """The path exists, this method on it does not."""

    reason = "method_not_allowed"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = tuple(sorted(allowed))
        super().__init__(f"Method Not Allowed: given {method}, accepted {', '.join(self.allowed)}.")


class MalformedHandshake(CallerError):
    """A WebSocket cannot be opened by this request."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"The WebSocket cannot be opened: {fault}. Accepted: a GET as in RFC 6455, version 13.")


class ForeignOrigin(CallerError):
    """A browser lets any page open a WebSocket to any server it reaches, so the server has to look where from."""

    reason = "foreign_origin"

    def __init__(self, origin: str, host: str) -> None:
        faults = [Fault("Origin", quoted(origin), f"an origin with the host {quoted(host)}, or no Origin")]
        super().__init__(
            f"A page of {quoted(origin)} may not open a WebSocket here. Accepted: pages of the host that is asked, "
            f"{quoted(host)}, and callers that are no browser.",
            faults,
        )


class RowConflict(CallerError):
    """Another row with this timestamp is already part of the line."""

    reason = "row_conflict"

    def __init__(self, stream_id: str, timestamp: str, faults: Sequence[Fault]) -> None:
        super().__init__(
            f"Line {quoted(stream_id)} already has a row at {timestamp} with other values: "
            + "; ".join(str(f) for f in faults)
            + ". Send a later timestamp, or the same values to get the same answer again.",
            faults,
        )


class RowTooLate(CallerError):
    """The rows that this late row would be judged with are no longer held."""

    reason = "row_too_late"

    def __init__(self, stream_id: str, timestamp: str, oldest: str) -> None:
        faults = [Fault("data.timestamp", timestamp, f"a time after {oldest}")]
        super().__init__(
            f"The row at {timestamp} is too late for line {quoted(stream_id)}: its held rows begin at {oldest}.", faults
        )


class TooLarge(CallerError):
    """A body, request or image above its limit."""

    reason = "too_large"

    def __init__(self, what: str, given: str, limit: str) -> None:
        super().__init__(f"The {what} is too large: given {given}, accepted {limit}.", [Fault(what, given, limit)])


class UnsupportedMedia(CallerError):
    """A content type, content encoding or image format that is not read."""

    reason = "unsupported_media_type"

    def __init__(self, field: str, given: str, accepted: Iterable[str]) -> None:
        listed = " or ".join(accepted)
        super().__init__(
            f"Unsupported {field}: given {quoted(given)}, accepted {listed}.", [Fault(field, quoted(given), listed)]
        )


class Unsupported(CallerError):
    """A feature of a protocol that this server does not have."""

    reason = "unsupported"

    def __init__(self, feature: str, instead: str) -> None:
        super().__init__(f"{feature} is not supported. {instead}")


class Unavailable(InferenceError):
    """Refused before anything was done."""

    reason = "unavailable"


class QueueFull(Unavailable):
    """The model's queue is at its limit of rows or bytes."""

    reason = "queue_full"

    def __init__(self, model: str, what: str, waiting: int, limit: int, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"The queue of model {model} is full: {waiting} {what} wait, the limit is {limit}. "
            f"Retry after {retry_after_s:g} s."
        )


class DeadlineUnreachable(Unavailable):
    """The request could not be answered in time, or others that were accepted could not, so it is not begun."""

    reason = "deadline_unreachable"

    def __init__(
        self, model: str, left_s: float, needed_s: float, retry_after_s: float, *, others: bool = False
    ) -> None:
        self.retry_after_s = retry_after_s
        why = "requests accepted before would be late" if others else f"it would take about {_in_ms(needed_s)}"
        super().__init__(
            f"Model {model} cannot answer within the {_in_ms(left_s)} that are left: {why} "
            f"with what is ahead. Retry after {retry_after_s:g} s, or allow more time."
        )


class LineUnavailable(Unavailable):
    """The server's process that this line belongs to is gone or starting anew; the row has entered no line."""

    reason = "line_unavailable"

    def __init__(self, process: int, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"The line's rows are held by process {process} of this server, which does not answer. "
            f"Nothing was done with this row. Send it again after {retry_after_s:g} s."
        )


class Stopping(Unavailable):
    """The server finishes what it has accepted and takes nothing new."""

    reason = "stopping"
    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__("The server is stopping and takes no new requests. Retry after 5 s, or ask another replica.")


class ModelNotReady(Unavailable):
    """The model is known and cannot answer now: it is loading, or could not be loaded."""

    reason = "model_not_ready"
    retry_after_s = 2.0

    def __init__(self, model: str, state: str, problems: Sequence[str] = ()) -> None:
        why = (": " + "; ".join(problems[:5])) if problems else ""
        super().__init__(f"Model {model} is not ready ({state}){why}. See `glassai models check`.")


class DeadlinePassed(InferenceError):
    """Accepted, but the answer was not there in time; it will not be computed for nobody."""

    reason = "deadline_passed"

    def __init__(self, model: str, waited_s: float) -> None:
        super().__init__(
            f"The deadline passed: model {model} did not answer within {_in_ms(waited_s)}. "
            "Allow more time, or lower the load."
        )


class RunFailed(InferenceError):
    """The model failed, and its own example fails too."""

    reason = "run_failed"

    def __init__(self, model: str, cause: str) -> None:
        super().__init__(f"Model {model} failed to run: {cause[:300]}")


class RunHung(RunFailed):
    """The run exceeded what the model ever takes, and was given up."""

    reason = "run_hung"

    def __init__(self, model: str, limit_s: float) -> None:
        super().__init__(model, f"a run took longer than {limit_s:g} s and was given up")


class RunCrashed(RunFailed):
    """The process that ran the model died, by a fault of the model or its runtime."""

    reason = "run_crashed"


class NonFiniteOutput(InferenceError):
    """The model answered NaN or infinity, which JSON cannot carry and nobody should act on."""

    reason = "non_finite_output"

    def __init__(self, model: str, outputs: Sequence[str], instead: str = "") -> None:
        listed = ", ".join(outputs)
        super().__init__(f"Model {model} answered NaN or infinity in output {listed}.{' ' if instead else ''}{instead}")


def _in_ms(seconds: float) -> str:
    """Milliseconds as a caller reads them: whole ones from 10 on, two digits below."""
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"
