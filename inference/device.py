"""A place to execute, and why it was chosen."""

from __future__ import annotations

import msgspec


class Device(msgspec.Struct, frozen=True):
    """The execution provider of a session, with the reason for each provider that was passed over.

    `passed_over` holds sentences such as "cuda: not in this build of ONNX Runtime (available: CPUExecutionProvider)".
    """

    provider: str  # tensorrt, cuda or cpu
    passed_over: tuple[str, ...] = ()
    runtime: str = ""  # what executes, with its version: "onnxruntime 1.32.0"
    threads: int = 1  # inside one operator
