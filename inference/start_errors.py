"""The errors that keep a command from going on, told to whoever started it; see `errors` for all others.

StartError
├── SettingsInvalid
├── ModelPackageInvalid
├── ModelsFolderUnreadable
└── AddressUnavailable
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.errors import InferenceError


class StartError(InferenceError):
    """A command cannot go on; `problems` lists everything that has to be mended, at once."""

    reason = "cannot_start"

    def __init__(self, sentence: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(sentence + "".join(f"\n  - {p}" for p in problems))


class SettingsInvalid(StartError):
    """Settings that cannot be honoured."""

    reason = "settings_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"The settings have {counted(problems)}:", problems)


class ModelPackageInvalid(StartError):
    """A model package with everything that is wrong with it."""

    reason = "model_package_invalid"

    def __init__(self, model: str, problems: Sequence[str]) -> None:
        self.model = model
        super().__init__(f"Model {model} cannot be loaded:", problems)


class ModelsFolderUnreadable(StartError):
    """The models folder is missing, not a folder, or not readable."""

    reason = "models_folder_unreadable"

    def __init__(self, folder: str, cause: str) -> None:
        super().__init__(
            f"The models folder {folder!r} cannot be read ({cause}). "
            "Name one with --models DIR or models.folder in the settings file."
        )


class AddressUnavailable(StartError):
    """The server cannot listen on this address."""

    reason = "address_unavailable"

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"Cannot listen on {host}:{port} ({cause}). Stop what uses it, or choose another with --port N."
        )


def counted(problems: Sequence[str]) -> str:
    """How many there are, as a sentence says it."""
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
