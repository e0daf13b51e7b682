"""The rows are those of the table that they are held to, and one without a server runs through."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.bare import BareSession
from benchmarks.bench import need_cores, pinned
from benchmarks.effort import QUICK
from benchmarks.load import WrkReport, seen
from benchmarks.payloads import window
from benchmarks.questions import Question, lstm, model_file, vit
from benchmarks.results import Bar, Result, result
from benchmarks.rows import ROWS
from benchmarks.under_test import PEERS


def test_every_row_has_a_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--list"])
    assert command.main() == 0
    assert capsys.readouterr().out.split() == list(ROWS)


def test_server_and_load_need_a_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert (pinned(0), pinned(1)) == (["taskset", "-c", "0"], [])
    with pytest.raises(RuntimeError, match=r"cores 0 and 1; not allowed here: \{1\}"):
        need_cores()


def test_mosec_stands_in_three_settings_beside_fastapi() -> None:
    assert [peer.mosec for peer in PEERS] == [True, True, True, False]


@pytest.mark.parametrize(("name", "shape", "first"), [("lstm", (32, 3), 0.51548433), ("vit", (3, 64, 64), -0.37804928)])
def test_the_models_are_those_that_everybody_measures_with(name: str, shape: tuple[int, ...], first: float) -> None:
    inputs = np.random.default_rng(4).uniform(0, 1, (8, *shape)).astype(np.float32)
    assert BareSession(model_file(name)).run(inputs)[0, 0] == pytest.approx(first, abs=1e-5)


def test_a_wrong_answer_is_not_taken_for_right() -> None:
    question = Question("/", b"", float, expected=0.25)
    assert question.right(b"0.25001")
    assert not question.right(b"0.26")


def test_requests_hold_what_their_header_says() -> None:
    assert lstm().body.count(b",") >= 95
    asked = vit()
    assert len(asked.body) == int(asked.headers["Inference-Header-Content-Length"]) + 3 * 64 * 64 * 4
    assert window().shape == (32, 3)


def test_a_run_with_failures_measures_nothing() -> None:
    report = WrkReport(requests=1000, duration_us=2_000_000, p50_us=500, p99_us=900, refused=10, broken=1)
    with pytest.raises(RuntimeError, match="10 answers were not 2xx, 1 got none"):
        seen(report, "here")
    told = seen(report, "here", all_good=False)
    assert (told.requests_s, told.p50_ms, told.failed) == (495.0, 0.5, 11)


def planted(monkeypatch: pytest.MonkeyPatch, outcome: Result | Exception) -> list[str]:
    """A row that ends so; the names of the rows that are kept."""
    kept: list[str] = []

    def row(name: str, effort: object) -> Result:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setitem(ROWS, "size", row)
    monkeypatch.setattr(command, "keep", lambda measured: kept.append(measured.row))
    monkeypatch.setattr(command, "write_report", lambda order: None)
    return kept


@pytest.mark.parametrize("met", [True, False])
def test_a_bar_that_is_not_met_is_told_by_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, met: bool
) -> None:
    kept = planted(monkeypatch, result("size", bars=(Bar("a", "1", "<= 1", met),)))
    assert command.measure("size", quick=False) is met
    assert kept == ["size"]
    assert ("NOT MET" in capsys.readouterr().out) is not met


def test_a_quick_row_is_not_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    kept = planted(monkeypatch, result("size"))
    assert command.measure("size", quick=True)
    assert kept == []
    assert "these figures mean nothing" in capsys.readouterr().out
    assert QUICK.pairs < 15


def test_a_row_that_fails_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = planted(monkeypatch, RuntimeError("wrk was not found"))
    assert not command.measure("size", quick=False)
    assert kept == []
    assert "NOT MEASURED: RuntimeError: wrk was not found" in capsys.readouterr().out
