"""The models folder: what is found in it, and every fault of a package in one report."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from inference.model import ModelKey, ModelSpec
from inference.model_repository import (
    ModelPackage,
    choose_versions,
    external_data_problems,
    odd_entries,
    read_package,
    read_package_folder,
    scan,
)
from inference.start_errors import ModelPackageInvalid, ModelsFolderUnreadable
from inference.tensor import Tensors
from tests.inference import tiny_models

MODELS = Path(__file__).parents[2] / "models"
KEY = ModelKey("tiny", 1)
WINDOW_TOML = """
format = 1
[model]
task = "sensor_window"
title = "Tiny window"
[sensor_window]
input = "rows"
rows = 4
features = [
  { name = "furnace_temperature", unit = "degC", valid_min = 1400.0, valid_max = 1700.0 },
  { name = "belt_speed", unit = "m/h", valid_min = 100.0, valid_max = 200.0 },
  { name = "pressure", unit = "Pa", valid_min = 0.0, valid_max = 40.0, when_missing = "hold_last" },
]
[output]
name = "defect_probability"
kind = "binary"
labels = ["ok", "defect"]
"""


def tiny(folder: Path, toml: str | None = None, example: Tensors | None = None, *, manifest: bool = False) -> Path:
    return tiny_models.package(folder, "tiny", 1, tiny_models.adder, toml, example, manifest=manifest)


def problems_of(folder: Path, key: ModelKey = KEY) -> list[str]:
    with pytest.raises(ModelPackageInvalid) as caught:
        read_package(folder, key)
    assert caught.value.model == str(key)
    return list(caught.value.problems)


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_models_and_versions_are_found_in_order(tmp_path: Path) -> None:
    for name, version in (("b", 10), ("b", 9), ("a.1-x_Y", 2)):
        (tmp_path / name / str(version)).mkdir(parents=True)
    assert scan(tmp_path) == {"a.1-x_Y": [2], "b": [9, 10]}
    assert odd_entries(tmp_path) == []


def test_hidden_entries_and_files_beside_the_models_are_nobody_s_business(tmp_path: Path) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / ".cache").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("about a")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("models")
    assert scan(tmp_path) == {"a": [1]}
    assert odd_entries(tmp_path) == []


def test_what_cannot_be_a_model_is_told_and_keeps_no_other_from_being_found(tmp_path: Path) -> None:
    for place in ("good/1", "good/v2", "good/02", "good/0", "none", "bad name/1", "x" * 129 + "/1"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "dropped.onnx").touch()
    (tmp_path / "none" / "model.onnx").touch()
    assert scan(tmp_path) == {"good": [1]}
    report = "\n".join(odd_entries(tmp_path))
    for told in (
        "dropped.onnx: lies in no model's folder; move it to dropped/1/model.onnx",
        "good/v2: given a name, accepted a version number from 1",
        "good/02: given a name, accepted a version number",
        "good/0: given a name, accepted a version number",
        "none/model.onnx: lies in no version's folder; move it to none/1/model.onnx",
        "none: holds no version; accepted none/1/model.onnx",
        "'bad name': given a name, accepted 1 to 128 of",
        "xxx",
    ):
        assert told in report


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_folder_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelsFolderUnreadable, match=rf"{place}' cannot be read \((No such file|Not a directory)"):
        scan(tmp_path / place)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_permission_is_an_error_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(ModelsFolderUnreadable, match="Permission denied"):
        scan(tmp_path)
    tmp_path.chmod(0o700)


def test_versions_are_chosen_by_policy() -> None:
    found = [1, 2, 10]
    assert choose_versions(found, "latest") == ([10], [])
    assert choose_versions(found, "all") == ([1, 2, 10], [])
    assert choose_versions(found, [10, 1, 1]) == ([1, 10], [])
    assert choose_versions(found, [3, 2]) == ([2], ["version 3 is wanted and not there (there: one of 1, 10, 2)"])


# ---- packages --------------------------------------------------------------------------------------------------------


def test_a_folder_with_nothing_but_a_model_is_a_package(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    package = read_package(tmp_path, KEY)
    assert package.key == KEY
    assert package.onnx_file == place / "model.onnx"
    assert package.bare
    assert package.spec == ModelSpec()
    assert package.example() is None


def test_a_model_toml_is_read(tmp_path: Path) -> None:
    tiny(tmp_path, WINDOW_TOML)
    package = read_package(tmp_path, KEY)
    assert not package.bare
    assert package.spec.sensor_window is not None
    assert [feature.unit for feature in package.spec.sensor_window.features] == ["degC", "m/h", "Pa"]


def test_the_bundled_packages_are_whole() -> None:
    for name, versions in scan(MODELS).items():
        package = read_package(MODELS, ModelKey(name, versions[-1]))
        assert not package.bare
        assert package.example() is not None


def test_a_version_s_own_folder_can_be_named(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    assert read_package_folder(place, ModelKey("other", 7)).key == ModelKey("other", 7)


def test_the_hash_is_the_model_s_content_and_nothing_else(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tiny(first)
    tiny(second, WINDOW_TOML)
    assert read_package(first, KEY).sha256 == read_package(second, KEY).sha256
    tiny_models.adder(second / "tiny" / "1" / "model.onnx", step=2)
    assert read_package(first, KEY).sha256 != read_package(second, KEY).sha256


def test_a_model_file_that_is_a_link_is_read(tmp_path: Path) -> None:
    """Mounted volumes and download caches are made of links; only external data must not be one."""
    place = tiny(tmp_path)
    (place / "model.onnx").rename(tmp_path / "elsewhere")
    (place / "model.onnx").symlink_to(tmp_path / "elsewhere")
    assert read_package(tmp_path, KEY).bare


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../tiny", "x" * 129, "a\0"])
def test_a_name_that_is_a_path_is_never_followed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelPackageInvalid, match="its name is not 1 to 128 of"):
        read_package(tmp_path, ModelKey(name, 1))


# ---- faults of the model file ----------------------------------------------------------------------------------------


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    tiny(tmp_path)
    assert problems_of(tmp_path, ModelKey("tiny", 2)) == [f"{tmp_path}/tiny/2 is not a folder"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda file: file.unlink(), "model.onnx: is missing"),
        (lambda file: file.write_bytes(b""), "model.onnx: is empty"),
        (lambda file: file.write_bytes(file.read_bytes()[:-20]), "model.onnx: it is cut short, or no ONNX file"),
        (lambda file: tiny_models.corrupt(file), "model.onnx: it is"),
        (lambda file: (file.unlink(), file.mkdir()), "model.onnx: cannot be read (Is a directory)"),
    ],
)
def test_a_model_file_that_cannot_be_one(tmp_path: Path, spoil: object, problem: str) -> None:
    place = tiny(tmp_path)
    assert callable(spoil)
    spoil(place / "model.onnx")
    (only,) = problems_of(tmp_path)
    assert only.startswith(problem)


def test_every_fault_of_a_package_is_reported_at_once(tmp_path: Path) -> None:
    place = tiny(tmp_path, WINDOW_TOML, {"x": np.ones((2, 1), np.float32)}, manifest=True)
    toml = (
        WINDOW_TOML.replace("rows = 4", 'rows = "four"')
        .replace("valid_min = 100.0", "valid_min = 300.0")
        .replace("kind =", "knd =")
        .replace('["ok", "defect"]', '["ok", 3]')
        .replace('unit = "Pa", ', "")
    )
    (place / "model.toml").write_text(toml)
    (place / "model.onnx").write_bytes(b"")
    (place / "example.npz").write_bytes(b"PK no archive")
    (place / "stray.bin").touch()
    report = "\n".join(problems_of(tmp_path))
    for told in (
        "model.onnx: is empty",
        "model.toml: sensor_window.rows: given 'four', accepted a whole number",
        "model.toml: sensor_window.features[1].valid_min: given 300, accepted less than valid_max (200)",
        "model.toml: sensor_window.features[2].unit: given nothing, accepted text",
        "model.toml: output.knd: given an unknown key, accepted 'kind' was meant?",
        "model.toml: output.kind: given nothing, accepted 'binary' or 'classes'",
        "model.toml: output.labels[1]: given 3, accepted text",
        "example.npz: cannot be read as an example",
        "stray.bin: is not listed in SHA256SUMS",
        "model.onnx: its sha256 is e3b0c442",
    ):
        assert told in report


def test_a_model_toml_that_is_another_file(tmp_path: Path) -> None:
    place = tiny(tmp_path, "this is [no toml")
    (only,) = problems_of(tmp_path)
    assert only.startswith("model.toml: is not TOML: ")
    (place / "model.toml").write_bytes(b"#" * (2 << 20))
    assert problems_of(tmp_path) == ["model.toml: given more than 1048576 bytes, accepted at most 1048576"]


# ---- the manifest ----------------------------------------------------------------------------------------------------


def test_a_package_that_agrees_with_its_manifest_is_read(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "tiny", 1, tiny_models.external_data, WINDOW_TOML, manifest=True)
    (place / ".hidden").write_text("not part of it")
    assert isinstance(read_package(tmp_path, KEY), ModelPackage)


def test_a_file_that_was_changed_is_named_with_both_hashes(tmp_path: Path) -> None:
    place = tiny(tmp_path, WINDOW_TOML, manifest=True)
    listed = (place / "SHA256SUMS").read_text().splitlines()[0].split()[0]
    tiny_models.adder(place / "model.onnx", step=2)
    found = read_package_folder(
        tiny_models.package(tmp_path, "b", 1, lambda f: tiny_models.adder(f, step=2)), KEY
    ).sha256
    assert problems_of(tmp_path) == [f"model.onnx: its sha256 is {found}, SHA256SUMS says {listed}"]


def test_files_are_listed_exactly(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "tiny", 1, tiny_models.external_data, WINDOW_TOML, manifest=True)
    (place / "model.toml").unlink()
    (place / "notes").mkdir()
    (place / "notes" / "new.txt").touch()
    lines = (place / "SHA256SUMS").read_text().splitlines()
    (place / "SHA256SUMS").write_text("\n".join(line for line in lines if "weights" not in line))
    assert problems_of(tmp_path) == [
        "notes/new.txt: is not listed in SHA256SUMS",
        "weights.bin: is not listed in SHA256SUMS",
        "model.toml: is listed in SHA256SUMS and missing",
    ]


def test_a_manifest_is_read_as_sha256sum_writes_it(tmp_path: Path) -> None:
    place = tiny(tmp_path, manifest=True)
    line = (place / "SHA256SUMS").read_text()
    (place / "SHA256SUMS").write_text(line.replace("  model", " *./model").upper().replace("MODEL.ONNX", "model.onnx"))
    assert read_package(tmp_path, KEY).bare
    (place / "SHA256SUMS").write_text(f"{line}{line}\nSHA256 (model.onnx) = abc\n")
    assert problems_of(tmp_path) == [
        "SHA256SUMS line 2: lists 'model.onnx' a second time",
        "SHA256SUMS line 4: given 'SHA256 (model.onnx) = abc', accepted a line as sha256sum writes it",
    ]


# ---- external data ---------------------------------------------------------------------------------------------------


def test_external_data_is_part_of_the_hash(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "tiny", 1, tiny_models.external_data)
    before = read_package(tmp_path, KEY).sha256
    weights = place / "weights.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert read_package(tmp_path, KEY).sha256 != before


def test_external_data_must_be_there(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "tiny", 1, tiny_models.external_data)
    (place / "weights.bin").unlink()
    assert problems_of(tmp_path) == ["weights.bin: external data is missing"]


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "", "nul\0"])
def test_external_data_outside_of_the_package_is_refused(tmp_path: Path, location: str) -> None:
    (problem,) = external_data_problems(tmp_path, [location])
    assert "external data outside of the package" in problem


def test_external_data_must_be_a_plain_file_of_its_own(tmp_path: Path) -> None:
    package, secret = tmp_path / "package", tmp_path / "secret"
    (package / "parts").mkdir(parents=True)
    (package / "parts" / "good.bin").write_bytes(b"weights")
    secret.write_text("secret")
    (package / "soft.bin").symlink_to(secret)
    (package / "hard.bin").hardlink_to(secret)
    (package / "way").symlink_to(tmp_path)
    assert external_data_problems(package, ["parts/good.bin"]) == []
    assert external_data_problems(package, ["soft.bin", "hard.bin", "way/secret", "parts"]) == [
        "soft.bin: external data behind a symbolic link, accepted a plain file",
        "hard.bin: external data with more than one hard link, accepted a file of its own",
        "way/secret: external data behind a symbolic link, accepted a plain file",
        "parts: external data is missing",
    ]


# ---- examples --------------------------------------------------------------------------------------------------------


def test_an_example_is_read_from_npz(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    tiny(tmp_path, example={"x": x, "text": np.array(["a", "bc", "d"])})
    example = read_package(tmp_path, KEY).example()
    assert example is not None
    assert example["x"].dtype == np.float32
    assert example["x"].tolist() == x.tolist()
    assert (example["text"].dtype, example["text"].tolist()) == (np.object_, ["a", "bc", "d"])


def test_an_example_is_read_from_json(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    (place / "example.json").write_text('{"x": [[1.5], [2]], "name": ["crack", "none"]}')
    example = read_package(tmp_path, KEY).example()
    assert example is not None
    assert example["x"].tolist() == [[1.5], [2]]
    assert example["name"].dtype == np.object_


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"x": [[1], [2, 3]]}', '{"x": {"y": 1}}', '{"x": [null]}', "{]"])
def test_a_json_example_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tiny(tmp_path) / "example.json").write_text(content)
    (only,) = problems_of(tmp_path)
    assert only.startswith("example.json: cannot be read as an example (")


def test_an_example_never_runs_code(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    np.savez(place / "example.npz", x=np.array([{"any": "object"}], object))
    (only,) = problems_of(tmp_path)
    assert only.startswith("example.npz: cannot be read as an example (Object arrays cannot be loaded")


def test_an_example_is_an_archive_of_bounded_size(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    with (place / "example.npz").open("wb") as stream:
        np.save(stream, np.ones(3))
    assert "accepted an archive of arrays" in problems_of(tmp_path)[0]
    np.savez_compressed(place / "example.npz", x=np.zeros(17 << 20, np.float32))
    assert "accepted at most 67108864" in problems_of(tmp_path)[0]


def test_two_examples_are_one_too_many(tmp_path: Path) -> None:
    place = tiny(tmp_path, example={"x": np.ones((1, 1), np.float32)})
    (place / "example.json").write_text('{"x": [[1]]}')
    assert problems_of(tmp_path) == ["example.npz and example.json: given both, accepted one"]
