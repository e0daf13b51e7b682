"""Requests for tests of the scheduler and the engine: real nouns with small contents."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from inference.model import ModelKey
from inference.request import Priority, Request

KEY = ModelKey("adder", 1)


def request(
    name: str = "r",
    rows: int = 1,
    *,
    group: Hashable = "same",
    byte_count: int | None = None,
    now: float = 0.0,
    timeout_s: float = 1000.0,
    key: ModelKey = KEY,
    priority: Priority = Priority.NORMAL,
) -> Request:
    """A request of `rows` rows of one number, each row counting up from 0."""
    inputs = {"x": np.arange(rows, dtype=np.float32).reshape(rows, 1)}
    size = rows * 4 if byte_count is None else byte_count
    return Request(name, key, inputs, rows, size, group, now + timeout_s, now, priority)
