"""Errors of a connection, met before there is a request that a handler could answer, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from inference.errors import CallerError, InferenceError, Unavailable
from inference.fault import Fault
from inference.protocols.inference_json import encode_error

ROUTE, METHOD = "connection", "none"  # under which these refusals are counted
RETRY_AFTER_S = 1.0


class MalformedHttp(CallerError):
    """Bytes that are not HTTP/1.1."""

    reason = "malformed_http"

    def __init__(self, fault: str) -> None:
        super().__init__(f"Malformed HTTP: {fault}. Accepted: HTTP/1.1 requests (RFC 9112).")


class HeadersTooLarge(CallerError):
    """A request line and headers, or trailers, above their limit of bytes or of number."""

    reason = "headers_too_large"

    def __init__(self, given: str, limit: str) -> None:
        super().__init__(
            f"The headers are too large: given {given}, accepted {limit}.", [Fault("headers", given, limit)]
        )


class CallerTooSlow(CallerError):
    """A request that did not come whole in time."""

    reason = "caller_too_slow"

    def __init__(self, what: str, limits: str) -> None:
        super().__init__(
            f"The {what} of the request came too slowly: accepted {limits}.", [Fault(what, "less", limits)]
        )


class TooManyConnections(Unavailable):
    """As many connections are open as the server takes."""

    reason = "too_many_connections"
    retry_after_s = RETRY_AFTER_S

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The server has {limit} connections open and takes no more. Retry after {RETRY_AFTER_S:g} s, "
            "and keep connections open rather than opening one a request."
        )


class Broken(InferenceError):
    """A fault of the server itself outside of any handler; its log has the rest."""

    def __init__(self) -> None:
        super().__init__("The server failed on this connection. Its log tells why.")


STATUS_BY_REASON: dict[str, int] = {
    MalformedHttp.reason: 400,
    CallerTooSlow.reason: 408,
    HeadersTooLarge.reason: 431,
    Broken.reason: 500,
    TooManyConnections.reason: 503,
}


def refusal(error: InferenceError, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole response to an error after which the connection is closed."""
    body = encode_error(error)
    headers = [*default_headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    headers.append((b"connection", b"close"))
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[STATUS_BY_REASON[error.reason]], *lines, b"\r\n", body))
