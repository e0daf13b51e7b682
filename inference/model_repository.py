"""The models folder: which models and versions there are, and each package with everything that is wrong with it.

A package is `NAME/VERSION/model.onnx` and, if there, `model.toml`, `example.npz` or `example.json`, `SHA256SUMS` and
files of external data; docs/model-repository.md describes them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from inference.decisions.signature_fit import signature_problems as signature_problems
from inference.fault import one_of, quoted
from inference.model import ModelKey, ModelSpec
from inference.protocols.model_toml import read_model_toml
from inference.protocols.onnx_file import read_onnx
from inference.settings import Versions
from inference.start_errors import ModelPackageInvalid, ModelsFolderUnreadable
from inference.tensor import Array, Tensors

MODEL_FILE, TOML_FILE, MANIFEST_FILE = "model.onnx", "model.toml", "SHA256SUMS"
EXAMPLE_FILES = ("example.npz", "example.json")
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")  # no path, no hidden folder, fits any file system
VERSION = re.compile(r"[1-9][0-9]{0,17}")
MANIFEST_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
TOML_BYTES_MAX = 1 << 20  # a model.toml has a hundred lines; more is another file by mistake
MANIFEST_BYTES_MAX = 1 << 20  # ten thousand files
EXAMPLE_BYTES_MAX = 64 << 20  # an example is a few rows, kept as long as the model
HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class ModelPackage:
    """One version of a model as it lies in its folder.

    `bare`: there is no model.toml. `sha256`: of model.onnx and its external data, in hexadecimal digits.
    """

    key: ModelKey
    folder: Path
    onnx_file: Path
    spec: ModelSpec
    bare: bool
    sha256: str
    example_tensors: Tensors | None = field(default=None, repr=False)

    def example(self) -> Tensors | None:
        """The package's own example by input name, rows on axis 0; dtypes of a JSON example are numpy's choice."""
        return self.example_tensors


# ---- the folder ------------------------------------------------------------------------------------------------------


def scan(folder: Path) -> dict[str, list[int]]:
    """Names of models and their versions, both in rising order. Raises ModelsFolderUnreadable."""
    return _look_through(folder)[0]


def odd_entries(folder: Path) -> list[str]:
    """What lies in the models folder and is no model, as sentences. Raises ModelsFolderUnreadable."""
    return _look_through(folder)[1]


def choose_versions(found: Sequence[int], policy: Versions) -> tuple[list[int], list[str]]:
    """The versions to load, in rising order, and a sentence for each one that is wanted and not there."""
    if policy == "latest":
        return sorted(found)[-1:], []
    if policy == "all":
        return sorted(found), []
    wanted = sorted(set(policy))
    missing = [version for version in wanted if version not in found]
    problems = [f"version {version} is wanted and not there (there: {one_of(map(str, found))})" for version in missing]
    return [version for version in wanted if version in found], problems


def _look_through(folder: Path) -> tuple[dict[str, list[int]], list[str]]:
    found: dict[str, list[int]] = {}
    problems: list[str] = []
    try:
        entries = _visible(folder)
    except OSError as error:
        raise ModelsFolderUnreadable(str(folder), error.strerror or str(error)) from error
    for entry, is_folder in entries:
        if is_folder:
            versions = _versions_of(entry, problems)
            if versions:
                found[entry.name] = versions
        elif entry.suffix == ".onnx":
            problems.append(f"{entry.name}: lies in no model's folder; move it to {entry.stem}/1/{MODEL_FILE}")
    return found, problems


def _versions_of(entry: Path, problems: list[str]) -> list[int]:
    if not NAME.fullmatch(entry.name):
        problems.append(f"{quoted(entry.name)}: given a name, accepted 1 to 128 of A-Z a-z 0-9 _ . -")
        return []
    versions = []
    try:
        inside = _visible(entry)
    except OSError as error:
        problems.append(f"{entry.name}: cannot be read ({error.strerror or error})")
        return []
    for child, is_folder in inside:
        if is_folder and VERSION.fullmatch(child.name):
            versions.append(int(child.name))
        elif is_folder:
            problems.append(f"{entry.name}/{quoted(child.name)[1:-1]}: given a name, accepted a version number from 1")
        elif child.suffix == ".onnx":
            place = f"{entry.name}/1/{MODEL_FILE}"
            problems.append(f"{entry.name}/{child.name}: lies in no version's folder; move it to {place}")
    if not versions:
        problems.append(f"{entry.name}: holds no version; accepted {entry.name}/1/{MODEL_FILE}")
    return sorted(versions)


def _visible(folder: Path) -> list[tuple[Path, bool]]:
    """Entries that are not hidden, in the order of their names, and whether each is a folder."""
    return sorted((entry, entry.is_dir()) for entry in folder.iterdir() if not entry.name.startswith("."))


# ---- a package -------------------------------------------------------------------------------------------------------


def read_package(folder: Path, key: ModelKey) -> ModelPackage:
    """The package of this version in this models folder. Raises ModelPackageInvalid with every problem at once."""
    if not NAME.fullmatch(key.name):
        raise ModelPackageInvalid(quoted(key.name), ["its name is not 1 to 128 of A-Z a-z 0-9 _ . -"])
    return read_package_folder(folder / key.name / str(key.version), key)


def read_package_folder(place: Path, key: ModelKey) -> ModelPackage:
    """The package in this very folder, called `key`. Raises ModelPackageInvalid with every problem at once."""
    if not place.is_dir():
        raise ModelPackageInvalid(str(key), [f"{place} is not a folder"])
    if not os.access(place, os.R_OK | os.X_OK):
        raise ModelPackageInvalid(str(key), [f"{place} cannot be read (Permission denied)"])
    problems: list[str] = []
    hashes: dict[str, str] = {}
    for location in _read_model(place, hashes, problems):
        _hash_file(place, location, hashes, problems)
    spec = _read_spec(place, problems)
    example = _read_example(place, problems)
    _check_manifest(place, hashes, problems)
    if problems or spec is None:
        raise ModelPackageInvalid(str(key), problems)
    bare = not (place / TOML_FILE).exists()
    return ModelPackage(key, place, place / MODEL_FILE, spec, bare, _package_hash(hashes), example)


def external_data_problems(folder: Path, locations: Iterable[str]) -> list[str]:
    """Why files of external data may not be read: they must be plain files of their own inside `folder`.

    A link could make the server read, or a later version of it write, any file of the machine under the model's name.
    """
    problems = []
    for location in locations:
        path = PurePosixPath(location)
        shown = quoted(location)[1:-1]
        if path.is_absolute() or ".." in path.parts or "\\" in location or not path.parts or "\0" in location:
            problems.append(f"{shown}: external data outside of the package, accepted a file inside its folder")
            continue
        places = [folder.joinpath(*path.parts[: count + 1]) for count in range(len(path.parts))]
        if any(place.is_symlink() for place in places):
            problems.append(f"{shown}: external data behind a symbolic link, accepted a plain file")
        elif not places[-1].is_file():
            problems.append(f"{shown}: external data is missing")
        elif places[-1].stat().st_nlink > 1:
            problems.append(f"{shown}: external data with more than one hard link, accepted a file of its own")
    return problems


def _read_model(place: Path, hashes: dict[str, str], problems: list[str]) -> Sequence[str]:
    """Note the hash of model.onnx; returns the files of external data that it refers to, all of them safe to read."""
    content = _read_whole(place / MODEL_FILE, problems)
    if content is None:
        return ()
    hashes[MODEL_FILE] = hashlib.sha256(content).hexdigest()
    if not content:
        problems.append(f"{MODEL_FILE}: is empty")
        return ()
    try:
        facts = read_onnx(content)
    except ValueError as error:
        problems.append(f"{MODEL_FILE}: {error}")
        return ()
    unsafe = external_data_problems(place, facts.external_files)
    problems += unsafe
    return () if unsafe else facts.external_files


def _hash_file(place: Path, name: str, hashes: dict[str, str], problems: list[str]) -> None:
    """Note the sha256 of a file of the package under its name, block by block: weights may be larger than memory."""
    digest = hashlib.sha256()
    try:
        with (place / name).open("rb", buffering=0) as stream:
            while block := stream.read(HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        problems.append(f"{name}: cannot be read ({error.strerror or error})")
    else:
        hashes[name] = digest.hexdigest()


def _package_hash(hashes: dict[str, str]) -> str:
    """The hash of model.onnx, or of the manifest over it and its external data."""
    if len(hashes) == 1:
        return hashes[MODEL_FILE]
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_whole(file: Path, problems: list[str], bytes_max: int | None = None) -> bytes | None:
    try:
        with file.open("rb") as stream:
            content = stream.read() if bytes_max is None else stream.read(bytes_max + 1)
    except FileNotFoundError:
        problems.append(f"{file.name}: is missing")
        return None
    except OSError as error:
        problems.append(f"{file.name}: cannot be read ({error.strerror or error})")
        return None
    if bytes_max is not None and len(content) > bytes_max:
        problems.append(f"{file.name}: given more than {bytes_max} bytes, accepted at most {bytes_max}")
        return None
    return content


def _read_spec(place: Path, problems: list[str]) -> ModelSpec | None:
    file = place / TOML_FILE
    if not file.exists():
        return ModelSpec()
    content = _read_whole(file, problems, TOML_BYTES_MAX)
    if content is None:
        return None
    spec, faults = read_model_toml(content)
    problems += [f"{TOML_FILE}: {fault}" for fault in faults]
    return spec


# ---- the example -----------------------------------------------------------------------------------------------------


def _read_example(place: Path, problems: list[str]) -> Tensors | None:
    files = [place / name for name in EXAMPLE_FILES if (place / name).exists()]
    if not files:
        return None
    if len(files) > 1:
        problems.append(f"{' and '.join(EXAMPLE_FILES)}: given both, accepted one")
        return None
    try:
        return _read_npz(files[0]) if files[0].suffix == ".npz" else _read_json(files[0])
    except Exception as error:  # noqa: BLE001 - a damaged archive raises anything from zipfile, zlib and numpy
        problems.append(f"{files[0].name}: cannot be read as an example ({error or type(error).__name__})")
        return None


def _read_npz(file: Path) -> Tensors:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise TypeError("accepted an archive of arrays, as numpy.savez writes it")
    with archive:
        size = sum(entry.file_size for entry in archive.zip.infolist()) if archive.zip else 0
        if size > EXAMPLE_BYTES_MAX:
            raise ValueError(f"given {size} bytes, accepted at most {EXAMPLE_BYTES_MAX}")
        return {name: _with_strings(array) for name, array in archive.items()}


def _read_json(file: Path) -> Tensors:
    problems: list[str] = []
    content = _read_whole(file, problems, EXAMPLE_BYTES_MAX)
    if content is None:
        raise ValueError(problems[0])
    values = msgspec.json.decode(content)
    if not isinstance(values, dict) or not values:
        raise TypeError("accepted an object {input: nested lists}")
    return {name: _with_strings(np.asarray(value)) for name, value in values.items()}


def _with_strings(array: Array) -> Array:
    """Text as the runtime takes it: object arrays of str."""
    if array.dtype.kind == "O":
        raise TypeError("accepted lists of equal length, of numbers or of text")
    return array.astype(np.object_) if array.dtype.kind == "U" else array


# ---- the manifest ----------------------------------------------------------------------------------------------------


def _check_manifest(place: Path, hashes: dict[str, str], problems: list[str]) -> None:
    """Hold every file against SHA256SUMS, if there is one. `hashes` are those that are known already."""
    manifest = place / MANIFEST_FILE
    if not manifest.exists():
        return
    content = _read_whole(manifest, problems, MANIFEST_BYTES_MAX)
    if content is None:
        return
    listed = _listed(content.decode(errors="replace"), problems)
    there = _files_of(place)
    absent = listed.keys() - there - {MODEL_FILE}  # its absence has been reported
    problems += [f"{name}: is not listed in {MANIFEST_FILE}" for name in sorted(there - listed.keys())]
    problems += [f"{name}: is listed in {MANIFEST_FILE} and missing" for name in sorted(absent)]
    all_hashes = dict(hashes)
    for name in sorted(listed.keys() & there):
        if name not in all_hashes:
            _hash_file(place, name, all_hashes, problems)
        found = all_hashes.get(name, listed[name])
        if found != listed[name]:
            problems.append(f"{name}: its sha256 is {found}, {MANIFEST_FILE} says {listed[name]}")


def _listed(text: str, problems: list[str]) -> dict[str, str]:
    listed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = MANIFEST_LINE.fullmatch(line)
        if match is None:
            given = f"{MANIFEST_FILE} line {number}: given {quoted(line)}"
            problems.append(f"{given}, accepted a line as sha256sum writes it")
            continue
        name = match[2].removeprefix("./")
        if name in listed:
            problems.append(f"{MANIFEST_FILE} line {number}: lists {quoted(name)} a second time")
        listed[name] = match[1].lower()
    return listed


def _files_of(place: Path) -> set[str]:
    """Every visible file of the package but the manifest, as a path with slashes."""
    found = set()
    for folder, subfolders, files in os.walk(place):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        relative = Path(folder).relative_to(place)
        found |= {(relative / name).as_posix() for name in files if not name.startswith(".")}
    return found - {MANIFEST_FILE}
