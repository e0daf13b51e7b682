"""What the parent of several server processes and each of them say to each other: one JSON object a message."""

from __future__ import annotations

import msgspec

from inference.settings import Settings

MESSAGE_BYTES_MAX = 64 * 1024  # the settings take some 3 KB


class Orders(msgspec.Struct, frozen=True, tag="orders"):
    """What a process is to be: number `process` of `processes`. `folder` holds the sockets of all of them."""

    settings: Settings
    process: int
    processes: int
    folder: str
    restarts: int = 0  # how many before it have ended in its place


class StopOrder(msgspec.Struct, frozen=True, tag="stop"):
    """Answer what was accepted and end; at once if `hurry`."""

    hurry: bool = False


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The loop of the process turns."""


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """The process listens, and has these models."""

    models: tuple[str, ...]


class CannotStart(msgspec.Struct, frozen=True, tag="cannot_start"):
    """The process ends, for a reason that another try would meet again."""

    reason: str


Order = Orders | StopOrder
Report = Alive | Serving | CannotStart

_ORDERS: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_REPORTS: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def encoded(message: Order | Report) -> bytes:
    """A message as bytes."""
    found = msgspec.json.encode(message)
    assert len(found) <= MESSAGE_BYTES_MAX, "settings are small"
    return found


def decoded_order(message: bytes) -> Order:
    """What the parent says. Raises msgspec.DecodeError."""
    return _ORDERS.decode(message)


def decoded_report(message: bytes) -> Report:
    """What a process says. Raises msgspec.DecodeError."""
    return _REPORTS.decode(message)
