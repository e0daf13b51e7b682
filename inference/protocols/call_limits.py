"""How urgent a call is and how long it may take: by headers, by fields of the body, else as its model declares.

Headers can be judged before the body is read, so a refusal costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from inference.errors import InvalidValues
from inference.fault import Fault, quoted
from inference.request import LIVE_PRIORITIES, Priority

PRIORITY_HEADER, TIMEOUT_HEADER = b"x-priority", b"x-timeout-ms"
PRIORITIES: Mapping[str, Priority] = {band.name.lower(): band for band in LIVE_PRIORITIES}
ACCEPTED_PRIORITY = "critical, high, normal or low"
TIMEOUT_CHARS_MAX = 24


class CallLimits(NamedTuple):
    """What the caller says of its own call; None where it says nothing."""

    priority: Priority | None = None
    timeout_s: float | None = None


NO_LIMITS = CallLimits()


def read_headers(headers: Mapping[bytes, bytes], timeout_max_s: float) -> CallLimits:
    """`X-Priority` and `X-Timeout-Ms`, by lower-case name. Raises InvalidValues that names both if both are wrong."""
    priority, timeout = headers.get(PRIORITY_HEADER), headers.get(TIMEOUT_HEADER)
    if priority is None and timeout is None:
        return NO_LIMITS
    faults: list[Fault] = []
    given_priority = None if priority is None else _priority(priority.decode("latin-1"), "X-Priority", faults)
    given_timeout = None
    if timeout is not None:
        text = quoted(timeout.decode("latin-1"))
        given_timeout = _timeout(_number(timeout), text, timeout_max_s, "X-Timeout-Ms", faults)
    if faults:
        raise InvalidValues(faults)
    return CallLimits(given_priority, given_timeout)


def read_fields(priority: str | None, timeout_ms: float | None, timeout_max_s: float) -> CallLimits:
    """The fields `priority` and `timeout_ms` of a body or a query. Raises InvalidValues that names what is wrong."""
    if priority is None and timeout_ms is None:
        return NO_LIMITS
    faults: list[Fault] = []
    given_priority = None if priority is None else _priority(priority, "priority", faults)
    given_timeout = None
    if timeout_ms is not None:
        text = "no number" if math.isnan(timeout_ms) else quoted(timeout_ms)
        given_timeout = _timeout(timeout_ms, text, timeout_max_s, "timeout_ms", faults)
    if faults:
        raise InvalidValues(faults)
    return CallLimits(given_priority, given_timeout)


def read_timeout_text(text: str) -> float:
    """Milliseconds in a query or header, as a number; what is none becomes NaN, which `read_fields` refuses."""
    return _number(text.encode("latin-1", "replace"))


def joined(headers: CallLimits, body: CallLimits) -> CallLimits:
    """Both together. Raises InvalidValues where they disagree, since either may be what the caller relies on."""
    if headers is NO_LIMITS:
        return body
    if body is NO_LIMITS:
        return headers
    faults = [
        Fault(name, f"{mine} in the body and {theirs} in the header", "one of them, or both equal")
        for name, mine, theirs in zip(("priority", "timeout_ms"), _shown(body), _shown(headers), strict=True)
        if mine and theirs and mine != theirs
    ]
    if faults:
        raise InvalidValues(faults)
    return CallLimits(
        headers.priority if body.priority is None else body.priority,
        headers.timeout_s if body.timeout_s is None else body.timeout_s,
    )


def _shown(limits: CallLimits) -> tuple[str, str]:
    priority = "" if limits.priority is None else limits.priority.name.lower()
    return priority, "" if limits.timeout_s is None else f"{limits.timeout_s * 1000:g}"


def _priority(given: str, field: str, faults: list[Fault]) -> Priority | None:
    band = PRIORITIES.get(given.strip().lower())
    if band is None:
        faults.append(Fault(field, quoted(given), ACCEPTED_PRIORITY))
    return band


def _timeout(given_ms: float, text: str, timeout_max_s: float, field: str, faults: list[Fault]) -> float | None:
    if 0 < given_ms <= timeout_max_s * 1000:
        return given_ms / 1000
    limit = f"milliseconds above 0, at most {timeout_max_s * 1000:g} (server.request_timeout_s)"
    faults.append(Fault(field, text, limit))
    return None


def _number(text: bytes) -> float:
    try:
        return float(text) if len(text) <= TIMEOUT_CHARS_MAX else float("nan")
    except ValueError:
        return float("nan")
