"""What an exception of a model runtime says, as one line for people."""

from __future__ import annotations

import re

CAUSE_CHARS_MAX = 300
# ONNX Runtime begins with a status and a place in its C++ source; neither helps who sends inputs or packs a model.
STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ [\w:~<>]+(?: [\w:~<>]+)*\([^)]*\)(?: const)?(?: \[[^\]]*\])? ")


def cause_of(error: BaseException) -> str:
    """The text of `error` on one line of at most 300 characters, or its class where it has none."""
    text = " ".join(str(error).split())
    return SOURCE.sub("", STATUS.sub("", text))[:CAUSE_CHARS_MAX] or type(error).__name__
