"""Which files a dataset's paths stand for, and every path that stands for none."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.connectors.input_files import find_files


def test_a_folder_stands_for_its_files_by_path_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.csv", "a/z.CSV", "a/_notes.csv", ".git/x.csv", "a/other.txt", "c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, problems = find_files([str(tmp_path)], (".csv",))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/z.CSV", "b.csv", "c.csv"]
    assert problems == []


def test_files_keep_the_order_in_which_they_are_named_whatever_their_ending(tmp_path: Path) -> None:
    for name in ("b.dat", "a.csv"):
        (tmp_path / name).touch()
    given = [str(tmp_path / "b.dat"), str(tmp_path / "a.csv")]
    assert [str(path) for path in find_files(given, (".csv",))[0]] == given


def test_every_path_that_stands_for_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = [str(tmp_path / "gone"), str(tmp_path / "empty")]
    found, problems = find_files(given, (".parquet", ".pq"))
    assert found == []
    assert "gone' is not there" in problems[0].replace(":", "")
    assert "no file below it ends in .parquet or .pq" in problems[1]


def test_more_files_than_a_job_remembers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.connectors.input_files.INPUT_FILES_MAX", 1)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    assert "it has 2 files, accepted at most 1" in find_files([str(tmp_path)], (".csv",))[1][0]
