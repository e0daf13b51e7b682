"""What the capacity test makes of its runs, in words and in a picture."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from inference.cli import capacity_test
from inference.cli.bench_request import BenchImpossible, request_from_body
from inference.cli.capacity_search import CapacitySearch
from inference.cli.capacity_test import Bench, BenchReport, BenchStep, head, measure, plot, report_of, row, verdict
from inference.cli.load_figures import LoadRun

REQUEST = request_from_body("m", b"{}")


def bench(**changed: float) -> Bench:
    given = {"goal_ms": 50.0, "seconds": 1.0, "rate_max_s": 1e6, **changed}
    return Bench("h", 80, "m", REQUEST, "poisson", given["goal_ms"], given["seconds"], 8, given["rate_max_s"], seed=1)


def step(rate: float, *, kept: bool, void: str = "") -> BenchStep:
    return BenchStep(rate, rate, 1.0, 2.0, 3.0, 0, 0, kept=kept, void=void)


class Server:
    """Stands for the generator and a server that answers `capacity` requests/s in 2 ms, and beyond it refuses."""

    def __init__(self, capacity: float, seconds: float = 1.0) -> None:
        self.capacity, self.seconds = capacity, seconds

    def __call__(self, host: str, port: int, requests: list[bytes], due_s, connections: int) -> LoadRun:
        fit = len(due_s) / self.seconds <= self.capacity
        done_s = type(due_s)("d", [due + 0.002 for due in due_s])
        status = type(due_s)("h", [200 if fit or connections == 1 else 503] * len(due_s))
        return LoadRun(due_s, due_s, due_s, done_s, status)


def test_the_capacity_is_where_refusals_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", Server(1000))
    told: list[str] = []
    report = measure(bench(), told.append)
    assert report.unloaded_p50_ms == pytest.approx(2.0)
    assert report.capacity_s == pytest.approx(1000, rel=0.12)
    assert told[2] == head()
    assert told[3:-1] == [row(step) for step in report.steps]
    assert (
        told[-1]
        == verdict(report)
        == f"Capacity at p99 <= 50 ms, poisson arrivals: {report.capacity_s:,.0f} requests/s."
    )


def test_no_rate_keeps_an_impossible_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", Server(1000))
    report = measure(bench(goal_ms=1.0), lambda line: None)
    assert report.capacity_s == 0
    assert "No rate kept the goal (p99 <= 1 ms" in verdict(report)


def test_the_highest_rate_that_was_tried_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", Server(1e9))
    report = measure(bench(rate_max_s=300.0), lambda line: None)
    assert report.capacity_s == 300
    assert "at least 300 requests/s; it is the highest rate that was tried" in verdict(report)


def test_a_server_that_answers_nothing_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", lambda *given, **more: LoadRun(*[given[3]] * 5))
    with pytest.raises(BenchImpossible, match="answered no request"):
        bench().unloaded_ms()


def late_by(seconds: float):
    """A generator that sends everything this late."""

    def run(host: str, port: int, requests: list[bytes], due_s: array[float], connections: int) -> LoadRun:
        sent_s = array("d", [due + seconds for due in due_s])
        return LoadRun(due_s, sent_s, sent_s, sent_s, array("h", [200] * len(due_s)))

    return run


def test_a_generator_that_never_keeps_up_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", late_by(0.006))
    search_in = bench(goal_ms=50.0)
    monkeypatch.setattr(Bench, "unloaded_ms", lambda self: 1.0)
    with pytest.raises(BenchImpossible, match=r"cannot keep 250 requests/s here: the generator came"):
        measure(search_in, lambda line: None)


def test_a_delay_that_is_small_beside_the_goal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", late_by(0.006))
    (only,) = bench(goal_ms=100.0).steps(CapacitySearch(10, rate_max_s=10))
    assert (only.kept, only.void) == (True, "")


def test_a_slow_model_gets_longer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_test, "run_load", Server(1e9, seconds=10.0))
    search = CapacitySearch(10, rate_max_s=10)
    (only,) = bench().steps(search)
    assert only.rate_s == 10
    assert only.answered_s == pytest.approx(10, rel=0.4)  # 100 requests in 10 s


def report(*steps: BenchStep) -> BenchReport:
    search = CapacitySearch(steps[0].rate_s, precision=2.0)
    for one in steps:
        search.saw(kept=one.kept)
    return report_of(bench(), 1.0, search, steps)


def test_a_generator_that_lagged_is_no_limit_of_the_server() -> None:
    void = step(200, kept=False, void="the generator came late")
    said = verdict(report(step(100, kept=True), void, void))
    assert "at least 100 requests/s; beyond it this load generator could not keep its own schedule" in said
    assert row(void).endswith("void: the generator came late")


def test_a_run_short_of_connections_says_so() -> None:
    crowded = BenchStep(100, 100, 1.0, 2.0, 3.0, 0, 0, kept=False, crowded="5% waited for a free connection")
    assert row(crowded).endswith("broken; 5% waited for a free connection")


@pytest.mark.parametrize("name", ["plot.svg", "plot.html"])
def test_the_picture_is_written(name: str, tmp_path: Path) -> None:
    plot(report(step(100, kept=True), step(200, kept=False), step(200, kept=False)), tmp_path / name)
    text = (tmp_path / name).read_text()
    assert "<svg" in text
    assert ("Capacity at" in text) is name.endswith("html")
