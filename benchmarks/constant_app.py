"""A constant answer as a bare ASGI application: what HTTP, asyncio and the load generator take without any model."""

from __future__ import annotations

from typing import Any

BODY = b'{"output":[[0.5]]}'
HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))],
}
TAIL = {"type": "http.response.body", "body": BODY}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, answer the constant."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(HEAD)
    await send(TAIL)
