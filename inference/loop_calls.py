"""Calls from runners' threads to the loop that owns the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *given: object) -> None:
    """Call it on the loop, if that still runs."""
    try:
        loop.call_soon_threadsafe(function, *given)
    except RuntimeError:
        log.debug("a thread came back after its loop had ended")
