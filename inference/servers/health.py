"""Whether the server lives, and whether it can answer: `/health/live` and `/health/ready`."""

from __future__ import annotations

import msgspec

from inference.model_manager import ModelManager
from inference.servers.exchange import Exchange, Response


class Live(msgspec.Struct):
    """The body of `/health/live`."""

    live: bool


class Ready(msgspec.Struct):
    """The body of `/health/ready`; `reasons` says what is missing, `models` where each version stands."""

    ready: bool
    reasons: list[str]
    models: dict[str, str]


async def live(exchange: Exchange) -> Response:
    """200 as long as the loop answers."""
    return Response(200, msgspec.json.encode(Live(True)))


async def ready(exchange: Exchange, models: ModelManager) -> Response:
    """200 when every required model has answered its canary lately, else 503 with the reasons."""
    readiness = models.readiness()
    states: dict[str, str] = {str(status.key): status.state for status in models.index()}
    body = msgspec.json.encode(Ready(readiness.ready, list(readiness.reasons), states))
    return Response(200 if readiness.ready else 503, body)
