"""Knees between starts: right for the same model on the same machine, and never a reason to fail."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from inference.device import Device
from inference.runtime.profile_cache import ProfileCache

MODEL = "a" * 64
DEVICE = Device("cpu", runtime="onnxruntime 1.32.0", threads=1)


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_is_written_is_read_by_the_next_start(tmp_path: Path) -> None:
    ProfileCache(str(tmp_path / "new" / "folder")).write(MODEL, DEVICE, 32)
    assert ProfileCache(str(tmp_path / "new" / "folder")).read(MODEL, DEVICE) == 32


def test_a_later_measurement_replaces_the_one_before(tmp_path: Path) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    cache.write(MODEL, DEVICE, 64)
    assert cache.read(MODEL, DEVICE) == 64
    assert only_file(tmp_path).suffix == ".json"


def test_the_batches_of_jobs_are_kept_beside_those_of_callers(tmp_path: Path) -> None:
    ProfileCache(str(tmp_path)).write(MODEL, DEVICE, 32)
    jobs = ProfileCache(str(tmp_path), of="batch")
    assert jobs.read(MODEL, DEVICE) is None
    jobs.write(MODEL, DEVICE, 96)
    assert (jobs.read(MODEL, DEVICE), ProfileCache(str(tmp_path)).read(MODEL, DEVICE)) == (96, 32)


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("b" * 64, DEVICE),
        (MODEL, Device("cuda", runtime=DEVICE.runtime)),
        (MODEL, Device("cpu", runtime="onnxruntime 1.33.0")),
        (MODEL, Device("cpu", runtime=DEVICE.runtime, threads=4)),
    ],
)
def test_another_model_device_runtime_or_number_of_threads_is_measured_anew(
    tmp_path: Path, model: str, device: Device
) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    assert cache.read(model, device) is None


def test_why_a_provider_was_passed_over_does_not_matter(tmp_path: Path) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    assert cache.read(MODEL, Device("cpu", ("cuda: not there",), DEVICE.runtime)) == 32


@pytest.mark.parametrize("machine", ["processor", "cores"])
def test_another_machine_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    monkeypatch.setattr(f"inference.runtime.profile_cache._{machine}", lambda: 7)
    assert cache.read(MODEL, DEVICE) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"knee": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_ignored_and_mended_by_the_next_write(tmp_path: Path, content: bytes) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    only_file(tmp_path).write_bytes(content)
    assert cache.read(MODEL, DEVICE) is None
    cache.write(MODEL, DEVICE, 16)
    assert cache.read(MODEL, DEVICE) == 16


@pytest.mark.parametrize("knee", [0, -1, 10**9])
def test_a_knee_that_cannot_be_is_ignored(tmp_path: Path, knee: int) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    entry = json.loads(only_file(tmp_path).read_text())
    only_file(tmp_path).write_text(json.dumps(entry | {"knee": knee}))
    assert cache.read(MODEL, DEVICE) is None


def test_a_file_of_another_model_under_this_name_is_not_believed(tmp_path: Path) -> None:
    cache = ProfileCache(str(tmp_path))
    cache.write(MODEL, DEVICE, 32)
    entry = json.loads(only_file(tmp_path).read_text())
    only_file(tmp_path).write_text(json.dumps(entry | {"model_sha256": "c" * 64}))
    assert cache.read(MODEL, DEVICE) is None


def test_a_folder_that_cannot_be_used_is_told_once_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ProfileCache(str(tmp_path / "file" / "folder"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            cache.write(MODEL, DEVICE, 32)
            assert cache.read(MODEL, DEVICE) is None
    assert [record.message for record in caplog.records] == [
        f"measured batch sizes are not kept in {tmp_path}/file/folder: Not a directory"
    ]


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = ProfileCache("")
    cache.write(MODEL, DEVICE, 32)
    assert cache.read(MODEL, DEVICE) is None
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ProfileCache("~/cache").write(MODEL, DEVICE, 32)
    assert only_file(tmp_path / "cache").is_file()


def test_a_home_folder_that_nobody_has_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    cache = ProfileCache("~no-such-user-here/cache")
    cache.write(MODEL, DEVICE, 32)
    assert cache.read(MODEL, DEVICE) is None
    assert "are not kept in ~no-such-user-here/cache" in caplog.text


def test_the_key_names_a_processor(tmp_path: Path) -> None:
    ProfileCache(str(tmp_path)).write(MODEL, DEVICE, 32)
    entry = json.loads(only_file(tmp_path).read_text())
    assert entry["processor"]
    assert entry["cores"] >= 1
