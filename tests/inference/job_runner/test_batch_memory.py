"""Sizes of batches stay within the memory that the peak so far lets expect."""

from __future__ import annotations

import numpy as np

from inference.job_runner.batch_memory import BatchMemory, peak_bytes

MIB = 1 << 20


class Process:
    """Its peak grows with the largest batch that ran."""

    def __init__(self, base_mib: int, row_mib: int) -> None:
        self.peak = base_mib * MIB
        self.row = row_mib * MIB

    def run(self, rows: int) -> None:
        self.peak = max(self.peak, 100 * MIB + rows * self.row)


def test_sizes_double_as_long_as_the_budget_lets_them() -> None:
    process = Process(100, 1)
    memory = BatchMemory(200 * MIB, lambda: process.peak)
    tried = []
    rows = 1
    while memory.allows(rows):
        process.run(rows)
        memory.ran(rows)
        tried.append(rows)
        rows *= 2
    assert tried == [1, 2, 4, 8, 16, 32, 64]
    assert process.peak <= 200 * MIB


def test_a_size_that_ran_is_allowed_whatever_others_took_meanwhile() -> None:
    process = Process(100, 1)
    memory = BatchMemory(110 * MIB, lambda: process.peak)
    assert memory.allows(1)
    memory.ran(1)
    process.peak = 500 * MIB
    assert memory.allows(1)
    assert memory.allows(2)  # what a row needs was seen when it ran
    memory.ran(2)
    assert memory.allows(2)
    assert not memory.allows(3)


def test_one_row_is_always_tried() -> None:
    assert BatchMemory(0, lambda: MIB).allows(1)


def test_the_peak_of_this_process_is_seen() -> None:
    before = peak_bytes()
    assert 10 * MIB < before < 64 * 1024 * MIB
    held = np.ones(before // 8 + 8 * MIB)
    assert peak_bytes() > before
    assert held[0] == 1
