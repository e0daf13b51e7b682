"""Which files a dataset's paths stand for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from inference.fault import quoted
from inference.job import INPUT_FILES_MAX


def find_files(paths: Sequence[str], endings: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files in the order of the paths, and a sentence for every path that stands for none.

    A folder stands for all files below it that have one of the `endings`, sorted by path; hidden ones (a name that
    begins with "." or "_") are somebody's notes. A path that is a file is taken whatever its ending.
    """
    found: list[Path] = []
    problems: list[str] = []
    for given in paths:
        path = Path(given)
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            below = sorted(_below(path, endings))
            if not below:
                problems.append(f"{quoted(given)}: no file below it ends in {' or '.join(endings)}")
            found += below
        else:
            problems.append(f"{quoted(given)}: is not there, or not a file or folder")
    if len(found) > INPUT_FILES_MAX:
        problems.append(f"it has {len(found):,} files, accepted at most {INPUT_FILES_MAX:,}: put several into one")
    return found, problems


def _below(folder: Path, endings: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(where) / name for name in files if not _hidden(name) and name.lower().endswith(tuple(endings))]
    return found


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))
