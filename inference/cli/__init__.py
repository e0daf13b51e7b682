"""The command line: `glassai serve | models | config | version`. `serve` loads nothing that only the others need."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 done, 1 problems were found, 2 it could not start."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        from inference.streaming_predictor import main as serve

        return serve(arguments[1:], prog="glassai serve")
    from inference.cli.commands import run

    return run(arguments)
