"""Model inference for glass plants.

`from inference import Predictor` predicts in this process; the servers are commands (`glassai --help`). Names are
loaded when they are asked for, so that a door loads nothing that it does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.predictor import Predictor as Predictor

_HOMES = {"Predictor": "inference.predictor"}


def __getattr__(name: str) -> object:
    """Load a public name from the module where it lives."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'inference' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
