"""What the lines of a dataset hold between two blocks, in arrays over all lines, and as the bytes that shards carry.

Memory: as many lines as `lines_max`, each with `rows_held` rows of 5 * features + 8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from inference.pipeline.window import Line, LineState
from inference.tensor import Array

CARRY_FORMAT = 1
SLOTS_FIRST = 16


class _Carried(msgspec.Struct, frozen=True, array_like=True):
    """Lines, the one idle for longest first; rows of all lines one after the other, `counts` each."""

    format: int
    rows_seen: int
    names: list[str]
    counts: list[int]
    trimmed: list[bool]
    times_us: bytes  # INT64
    values: bytes  # FP32 [rows, features]
    held: bytes  # a bit a value


class LineStates:
    """The lines by name. `rows_seen`: rows of the dataset before the next one.

    Of each line a slot: `values` FP32 [slots, width, features] and the like hold its newest rows at the end of axis 1,
    and before them, where it has fewer, the first one repeated. `width` is `rows_held`, and 2 at the least.
    """

    def __init__(self, features: Sequence[str], window_rows: int, rows_held: int, lines_max: int) -> None:
        self.rows_seen = 0
        self.lines_max = lines_max
        self.rows_held = rows_held
        self.window_rows = window_rows
        self.width = max(rows_held, 2)  # a value may be held from the row before, also where a window is one row
        self._features = tuple(features)
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._allocate(SLOTS_FIRST)

    def __len__(self) -> int:
        return len(self._slots)

    def find(self, name: str) -> int:
        """The slot of a line, -1 if it is not known."""
        return self._slots.get(name, -1)

    def take(self, name: str) -> int:
        """A slot for a line that is not known."""
        if not self._free:
            self._allocate(2 * len(self.counts))
        slot = self._slots[name] = self._free.pop()
        self.counts[slot] = 0
        self.trimmed[slot] = False
        return slot

    def drop(self, name: str) -> None:
        """Forget a line."""
        self._free.append(self._slots.pop(name))

    def by_idleness(self) -> list[str]:
        """All lines, the one idle for longest first."""
        return sorted(self._slots, key=lambda name: int(self.touched[self._slots[name]]))

    def line(self, name: str) -> Line:
        """A line as the live path has it, with the rows of this one if it is known."""
        line = Line(self._features, self.window_rows, self.rows_held)
        slot = self.find(name)
        if slot >= 0:
            newest = slice(self.width - int(self.counts[slot]), None)
            line.restore(
                LineState(
                    self.times_us[slot, newest],
                    self.values[slot, newest],
                    self.held[slot, newest],
                    bool(self.trimmed[slot]),
                )
            )
        return line

    def keep(self, name: str, state: LineState, touched: int) -> None:
        """Hold what a line holds; `touched`: the row of the dataset that it took in last."""
        slot = self.find(name)
        if slot < 0:
            slot = self.take(name)
        count = len(state.times_us)
        padded = np.maximum(np.arange(self.width) - (self.width - count), 0)
        self.times_us[slot] = state.times_us[padded]
        self.values[slot] = state.values[padded]
        self.held[slot] = state.held[padded]
        self.counts[slot] = count
        self.trimmed[slot] = state.trimmed
        self.touched[slot] = touched

    def encode(self) -> bytes:
        """All lines; the same bytes for the same rows, however they were cut into blocks."""
        names = self.by_idleness()
        slots = np.array([self._slots[name] for name in names], np.int64)
        counts = self.counts[slots]
        real = np.arange(self.width) >= self.width - counts[:, None]
        carried = _Carried(
            CARRY_FORMAT,
            self.rows_seen,
            names,
            counts.tolist(),
            self.trimmed[slots].tolist(),
            self.times_us[slots][real].tobytes(),
            self.values[slots][real].tobytes(),
            np.packbits(self.held[slots][real]).tobytes(),
        )
        return msgspec.msgpack.encode(carried)

    def decode(self, carry: bytes) -> None:
        """Become what was encoded; nothing is known after b""."""
        self._slots.clear()
        self._allocate(SLOTS_FIRST)
        self.rows_seen = 0
        if not carry:
            return
        carried = msgspec.msgpack.decode(carry, type=_Carried)
        assert carried.format == CARRY_FORMAT, "a job is planned and run by one version"
        rows, features = sum(carried.counts), len(self._features)
        times_us = np.frombuffer(carried.times_us, np.int64)
        values = np.frombuffer(carried.values, np.float32).reshape(rows, features)
        bits = np.unpackbits(np.frombuffer(carried.held, np.uint8), count=rows * features)
        held = bits.reshape(rows, features).astype(np.bool_)
        start = 0
        for place, (name, count) in enumerate(zip(carried.names, carried.counts, strict=True)):
            own = slice(start, start + count)
            state = LineState(times_us[own], values[own], held[own], carried.trimmed[place])
            self.keep(name, state, place - len(carried.names))  # before the shard's first row, in their order
            start += count
        self.rows_seen = carried.rows_seen

    def _allocate(self, slots: int) -> None:
        """Room for so many slots; those that are in use stay."""
        used = len(self.counts) if self._slots else 0
        more = slots - used
        width, features = self.width, len(self._features)
        empty: dict[str, Array] = {
            "counts": np.zeros(more, np.int64),
            "trimmed": np.zeros(more, np.bool_),
            "touched": np.zeros(more, np.int64),
            "times_us": np.zeros((more, width), np.int64),
            "values": np.zeros((more, width, features), np.float32),
            "held": np.zeros((more, width, features), np.bool_),
        }
        if used:
            empty = {name: np.concatenate([getattr(self, name), array]) for name, array in empty.items()}
        self.counts, self.trimmed, self.touched = empty["counts"], empty["trimmed"], empty["touched"]
        self.times_us, self.values, self.held = empty["times_us"], empty["values"], empty["held"]
        self._free = list(range(slots - 1, used - 1, -1))
