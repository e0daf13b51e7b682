"""The counters as Prometheus families, with Triton's names beside our own."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from inference.monitoring.counters import COUNTS, GAUGES, CounterSource, Histogram, VersionMetrics
from inference.monitoring.machine import MachineCollector
from inference.monitoring.process_families import Family, families_of
from inference.version import VERSION

LABELS = ("model", "version")
TRITON_REASONS = {  # our reason -> Triton's label value; all others are OTHER
    "queue_full": "REJECTED",
    "stopping": "REJECTED",
    "deadline_passed": "REJECTED",
    "cancelled": "CANCELED",
    "run_failed": "BACKEND",
    "run_hung": "BACKEND",
    "run_crashed": "BACKEND",
    "inputs_rejected": "BACKEND",
}


class Exposition(Collector):
    """A registry of its own over one process's counters."""

    def __init__(self, source: CounterSource) -> None:
        self._source = source
        self._build = _build()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._registry.register(MachineCollector())

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)

    def families(self) -> list[Family]:
        """What `render` writes, to be put together with that of other processes."""
        return families_of(self._registry.collect())

    def describe(self) -> list[Metric]:
        """Nothing: the names are fixed, and collecting to find them would read every gauge at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family, from one look at the counters."""
        versions = list(self._source.versions.values())
        yield self._build
        yield from _requests(versions)
        yield from _histograms(versions)
        yield from _gauges(versions)
        yield _scaling(versions)
        yield from _http(self._source)
        yield from _triton(versions)


def _build() -> Metric:
    names = ("version", "python", "onnxruntime")
    family = GaugeMetricFamily("glassai_build_info", "Versions of what runs.", labels=names)
    onnxruntime = _installed("onnxruntime") or _installed("onnxruntime-gpu") or "unknown"
    family.add_metric((VERSION, platform.python_version(), onnxruntime), 1)
    return family


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _labels(counters: VersionMetrics) -> tuple[str, str]:
    return counters.key.name, str(counters.key.version)


def _requests(versions: list[VersionMetrics]) -> Iterator[Metric]:
    ended = CounterMetricFamily("glassai_requests", "Requests that ended, with an answer or without.", labels=LABELS)
    errors = CounterMetricFamily(
        "glassai_request_errors", "Requests that ended without an answer, by reason.", labels=(*LABELS, "reason")
    )
    rows = CounterMetricFamily("glassai_rows", "Rows that sessions ran.", labels=LABELS)
    for counters in versions:
        failed = counters.errors.copy()
        ended.add_metric(_labels(counters), sum(counters.total.counts) + sum(failed.values()))
        rows.add_metric(_labels(counters), counters.batch_rows.total)
        for reason, count in sorted(failed.items()):
            errors.add_metric((*_labels(counters), reason), count)
    yield from (ended, errors, rows)


def _histograms(versions: list[VersionMetrics]) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        "glassai_latency_seconds",
        "Time by stage: queue (a request waits), run (one session call), total (a request, arrival to answer).",
        labels=(*LABELS, "stage"),
    )
    batches = HistogramMetricFamily("glassai_batch_rows", "Rows of each session call.", labels=LABELS)
    for counters in versions:
        for stage, histogram in (("queue", counters.queue), ("run", counters.run), ("total", counters.total)):
            latency.add_metric((*_labels(counters), stage), _buckets(histogram), histogram.total)
        batches.add_metric(_labels(counters), _buckets(counters.batch_rows), counters.batch_rows.total)
    yield from (latency, batches)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts.copy()), strict=True))


def _gauges(versions: list[VersionMetrics]) -> Iterator[Metric]:
    for name, meaning in (GAUGES | COUNTS).items():
        family = (CounterMetricFamily if name in COUNTS else GaugeMetricFamily)(name, meaning, labels=LABELS)
        for counters in versions:
            read = counters.gauges.get(name)
            if read is not None:
                family.add_metric(_labels(counters), read())
        if family.samples:
            yield family


def _scaling(versions: list[VersionMetrics]) -> Metric:
    labels = (*LABELS, "direction", "cause")
    changes = CounterMetricFamily("glassai_scaling_changes", "Runners started (up) and given up (down).", labels=labels)
    for counters in versions:
        for (direction, cause), runners in sorted(counters.scaling_changes.copy().items()):
            changes.add_metric((*_labels(counters), direction, cause), runners)
    return changes


def _http(source: CounterSource) -> Iterator[Metric]:
    responses = CounterMetricFamily("glassai_http_responses", "HTTP answers.", labels=("route", "method", "code"))
    for (route, method, status), count in sorted(dict(source.responses).items()):
        responses.add_metric((route, method, str(status)), count)
    errors = CounterMetricFamily("glassai_http_errors", "HTTP error answers, by reason.", labels=("route", "reason"))
    for (route, reason), count in sorted(dict(source.refusals).items()):
        errors.add_metric((route, reason), count)
    streams = GaugeMetricFamily("glassai_stream_connections", "WebSockets that are open.")
    streams.add_metric((), source.stream_connections)
    yield from (responses, errors, streams)


def _triton(versions: list[VersionMetrics]) -> Iterator[Metric]:
    """The names that dashboards made for Triton read. Untyped, since its counters lack the suffix `_total`."""
    success = UnknownMetricFamily("nv_inference_request_success", "Requests that were answered.", labels=LABELS)
    failure = UnknownMetricFamily("nv_inference_request_failure", "Requests that failed.", labels=(*LABELS, "reason"))
    rows = UnknownMetricFamily("nv_inference_count", "Rows that sessions ran.", labels=LABELS)
    calls = UnknownMetricFamily("nv_inference_exec_count", "Session calls.", labels=LABELS)
    pending = GaugeMetricFamily("nv_inference_pending_request_count", "Requests without an answer.", labels=LABELS)
    for counters in versions:
        labels = _labels(counters)
        success.add_metric(labels, sum(counters.total.counts))
        rows.add_metric(labels, counters.batch_rows.total)
        calls.add_metric(labels, sum(counters.batch_rows.counts))
        failures = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
        for reason, count in counters.errors.copy().items():
            failures[TRITON_REASONS.get(reason, "OTHER")] += count
        for reason, count in failures.items():
            failure.add_metric((*labels, reason), count)
        read = counters.gauges.get("glassai_requests_pending")
        if read is not None:
            pending.add_metric(labels, read())
    yield from (success, failure, rows, calls, pending)
