"""Every figure of a scrape, by name, labels and value."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from inference.model import ModelKey
from inference.monitoring.counters import LATENCY_BOUNDS_S
from inference.monitoring.exposition import Exposition
from inference.monitoring.metrics import Metrics
from inference.version import VERSION

Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(metrics: Metrics) -> dict[Sample, float]:
    text = Exposition(metrics).render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def at(name: str, **labels: str) -> Sample:
    return name, tuple(sorted(labels.items()))


def test_a_life_of_one_model_shows_in_a_scrape():
    metrics = Metrics()
    counters = metrics.for_version(ModelKey("lstm", 3))
    counters.observe_batch(8, 2e-3)
    for queue_s in (10e-6, 300e-6):
        counters.observe_answer(queue_s, 2.4e-3)
    for reason in ("queue_full", "run_failed", "non_finite_output", "cancelled"):
        counters.count_error(reason)
    found = scraped(metrics)
    lstm = {"model": "lstm", "version": "3"}
    assert found[at("glassai_requests_total", **lstm)] == 6
    assert found[at("glassai_request_errors_total", reason="queue_full", **lstm)] == 1
    assert found[at("glassai_rows_total", **lstm)] == 8
    assert found[at("glassai_latency_seconds_bucket", stage="queue", le="5e-05", **lstm)] == 1
    assert found[at("glassai_latency_seconds_bucket", stage="queue", le="0.0005", **lstm)] == 2
    assert found[at("glassai_latency_seconds_bucket", stage="queue", le="+Inf", **lstm)] == 2
    assert found[at("glassai_latency_seconds_sum", stage="run", **lstm)] == 2e-3
    assert found[at("glassai_latency_seconds_count", stage="total", **lstm)] == 2
    assert found[at("glassai_batch_rows_bucket", le="8", **lstm)] == 1
    assert found[at("glassai_batch_rows_bucket", le="4", **lstm)] == 0


def test_triton_names_come_from_the_same_counters():
    metrics = Metrics()
    counters = metrics.for_version(ModelKey("lstm", 1))
    counters.observe_batch(8, 2e-3)
    counters.observe_answer(0.0, 2e-3)
    counters.watch("glassai_requests_pending", lambda: 4)
    for reason in ("queue_full", "deadline_passed", "cancelled", "run_failed", "invalid_tensor"):
        counters.count_error(reason)
    found = scraped(metrics)
    lstm = {"model": "lstm", "version": "1"}
    assert found[at("nv_inference_request_success", **lstm)] == 1
    assert found[at("nv_inference_count", **lstm)] == 8
    assert found[at("nv_inference_exec_count", **lstm)] == 1
    assert found[at("nv_inference_pending_request_count", **lstm)] == 4
    failures = {
        reason: found[at("nv_inference_request_failure", reason=reason, **lstm)]
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {"REJECTED": 2, "CANCELED": 1, "BACKEND": 1, "OTHER": 1}


def test_gauges_are_read_at_the_scrape():
    metrics = Metrics()
    waiting = [3]
    metrics.for_version(ModelKey("lstm", 1)).watch("glassai_queue_rows", lambda: waiting[0])
    metrics.for_version(ModelKey("vit", 1))
    exposition = Exposition(metrics)
    assert b'glassai_queue_rows{model="lstm",version="1"} 3.0' in exposition.render()
    waiting[0] = 5
    assert b'glassai_queue_rows{model="lstm",version="1"} 5.0' in exposition.render()
    assert b'glassai_queue_rows{model="vit"' not in exposition.render()


def test_scaling_shows_by_direction_and_cause():
    metrics = Metrics()
    counters = metrics.for_version(ModelKey("lstm", 1))
    counters.count_scaling("up", "delay", 2)
    counters.count_scaling("down", "no_gain", 1)
    counters.watch("glassai_runners_wanted", lambda: 2)
    counters.watch("glassai_runner_utilisation", lambda: 0.75)
    found = scraped(metrics)
    lstm = {"model": "lstm", "version": "1"}
    assert found[at("glassai_scaling_changes_total", direction="up", cause="delay", **lstm)] == 2
    assert found[at("glassai_scaling_changes_total", direction="down", cause="no_gain", **lstm)] == 1
    assert found[at("glassai_runners_wanted", **lstm)] == 2
    assert found[at("glassai_runner_utilisation", **lstm)] == 0.75


def test_http_answers_and_errors_are_counted_by_route():
    metrics = Metrics()
    metrics.count_response("/api/inference/stream", "POST", 200)
    metrics.count_response("/api/inference/stream", "POST", 422, "invalid_values")
    found = scraped(metrics)
    route = "/api/inference/stream"
    assert found[at("glassai_http_responses_total", route=route, method="POST", code="200")] == 1
    assert found[at("glassai_http_errors_total", route=route, reason="invalid_values")] == 1


def test_the_build_and_the_process_are_described():
    found = scraped(Metrics())
    (build,) = (labels for name, labels in found if name == "glassai_build_info")
    assert dict(build)["version"] == VERSION
    assert set(dict(build)) == {"version", "python", "onnxruntime"}
    assert found[at("process_resident_memory_bytes")] > 1e6
    assert found[at("process_threads")] >= 1


def test_latency_is_resolved_from_50_microseconds_up():
    assert LATENCY_BOUNDS_S[0] == 50e-6
    assert LATENCY_BOUNDS_S[-1] == 30.0


def test_what_only_grows_is_a_counter_even_if_it_is_read_like_a_gauge():
    metrics = Metrics()
    metrics.for_version(ModelKey("lstm", 1)).watch("glassai_line_gaps", lambda: 3)
    assert scraped(metrics)[at("glassai_line_gaps_total", model="lstm", version="1")] == 3
    assert b"# TYPE glassai_line_gaps_total counter" in metrics.render()
