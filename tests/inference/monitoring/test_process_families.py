"""The metrics of several processes on one page: what is summed, what is not, and what outlives a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.model import ModelKey
from inference.monitoring.exposition import Exposition
from inference.monitoring.metrics import Metrics
from inference.monitoring.process_families import (
    CounterFile,
    Family,
    added,
    decoded,
    encoded,
    merged,
    read_counters,
    render,
)

LSTM = (("model", "lstm"),)


def counter(value: float, labels: tuple[tuple[str, str], ...] = LSTM) -> Family:
    return Family("glassai_requests", "Requests.", "counter", [("glassai_requests_total", labels, value)])


def gauge(name: str, value: float) -> Family:
    return Family(name, "A gauge.", "gauge", [(name, LSTM, value)])


def text(*families: Family) -> list[str]:
    return [line for line in render(families).decode().splitlines() if not line.startswith("#")]


def test_counters_are_summed_by_their_labels() -> None:
    other = (("model", "vit"),)
    page = merged({0: [counter(3)], 1: [counter(4), counter(5, other)]})
    assert text(*page) == ['glassai_requests_total{model="lstm"} 7.0', 'glassai_requests_total{model="vit"} 5.0']


def test_histograms_are_summed_bucket_by_bucket() -> None:
    def histogram(*counts: float) -> Family:
        names = ("0.1", "+Inf")
        samples = [("h_bucket", (("le", le),), count) for le, count in zip(names, counts, strict=False)]
        return Family("h", "Seconds.", "histogram", [*samples, ("h_count", (), counts[1]), ("h_sum", (), counts[2])])

    page = merged({0: [histogram(1, 3, 0.5)], 1: [histogram(2, 2, 0.25)]})
    assert text(*page) == ['h_bucket{le="0.1"} 3.0', 'h_bucket{le="+Inf"} 5.0', "h_count 5.0", "h_sum 0.75"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glassai_queue_rows", ['glassai_queue_rows{model="lstm"} 3.0']),
        ("glassai_build_info", ['glassai_build_info{model="lstm"} 1.0']),
        (
            "glassai_model_ready",
            ['glassai_model_ready{model="lstm",process="0"} 1.0', 'glassai_model_ready{model="lstm",process="1"} 2.0'],
        ),
        (
            "glassai_of_tomorrow",
            ['glassai_of_tomorrow{model="lstm",process="0"} 1.0', 'glassai_of_tomorrow{model="lstm",process="1"} 2.0'],
        ),
    ],
)
def test_a_gauge_is_summed_shown_once_or_shown_by_process(name: str, expected: list[str]) -> None:
    assert text(*merged({0: [gauge(name, 1)], 1: [gauge(name, 2)]})) == expected


def test_all_that_a_process_shows_goes_over_the_wire_and_back() -> None:
    metrics = Metrics()
    version = metrics.for_version(ModelKey("lstm", 1))
    version.observe_answer(0.001, 0.002)
    version.watch("glassai_model_ready", lambda: True)
    metrics.count_response("/metrics", "GET", 200)
    families = Exposition(metrics).families()
    assert decoded(encoded(families)) == families
    own = {line for line in metrics.render().decode().splitlines() if not line.startswith(("process_", "#"))}
    assert own <= set(text(*families))


def test_triton_names_are_summed_though_they_are_untyped() -> None:
    def untyped(value: float) -> Family:
        return Family("nv_inference_count", "Rows.", "unknown", [("nv_inference_count", LSTM, value)])

    assert text(*merged({0: [untyped(2)], 1: [untyped(3)]})) == ['nv_inference_count{model="lstm"} 5.0']


# ---- what outlives a process -----------------------------------------------------------------------------------------


def test_a_successor_counts_on_from_what_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "0.counters"
    first = CounterFile(path)
    assert first.carried_on([counter(10), gauge("glassai_queue_rows", 7)]) == [
        counter(10),
        gauge("glassai_queue_rows", 7),
    ]
    second = CounterFile(path)
    assert second.carried_on([counter(2), gauge("glassai_queue_rows", 1)]) == [
        counter(12),
        gauge("glassai_queue_rows", 1),
    ]
    assert CounterFile(path).carried_on([counter(0)]) == [counter(12)]


def test_what_was_counted_of_labels_that_have_not_come_again_is_kept() -> None:
    other = (("model", "vit"),)
    assert added([counter(1)], [counter(5, other)]) == [
        Family(
            "glassai_requests",
            "Requests.",
            "counter",
            [("glassai_requests_total", other, 5), ("glassai_requests_total", LSTM, 1)],
        )
    ]
    assert added([], [counter(5)]) == [counter(5)]


def test_only_what_grows_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "0.counters"
    CounterFile(path).carried_on([counter(1), gauge("glassai_queue_rows", 7)])
    assert read_counters(path) == [counter(1)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.counters"]


def test_a_file_that_is_missing_or_spoilt_costs_no_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "0.counters"
    assert read_counters(path) == []
    assert not caplog.records
    path.write_bytes(b"\xc1 no families")
    assert read_counters(path) == []
    assert "cannot be read" in caplog.text
