"""One registry a process: the same counters for the same version, few labels, text that Prometheus reads."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from inference.model import ModelKey
from inference.monitoring.metrics import Metrics

LSTM = ModelKey("lstm", 1)


def test_a_version_keeps_its_counters_until_it_is_forgotten():
    metrics = Metrics()
    counters = metrics.for_version(LSTM)
    counters.count_error("queue_full")
    assert metrics.for_version(LSTM) is counters
    assert metrics.for_version(ModelKey("lstm", 2)) is not counters
    metrics.forget(LSTM)
    assert metrics.for_version(LSTM).errors == {}


def test_a_scrape_under_way_is_not_disturbed_by_a_new_version():
    metrics = Metrics()
    metrics.for_version(LSTM)
    walking = iter(metrics.versions.values())
    metrics.for_version(ModelKey("vit", 1))
    assert [counters.key for counters in walking] == [LSTM]


def test_made_up_methods_share_one_label():
    metrics = Metrics()
    metrics.count_response("/v2", "BREW", 405, "method_not_allowed")
    metrics.count_response("/v2", "STEEP", 405, "method_not_allowed")
    metrics.count_response("/v2", "GET", 200)
    assert metrics.responses == {("/v2", "other", 405): 2, ("/v2", "GET", 200): 1}
    assert metrics.refusals == {("/v2", "method_not_allowed"): 2}


def test_render_gives_text_that_prometheus_reads():
    metrics = Metrics()
    metrics.for_version(LSTM).observe_answer(1e-4, 1e-3)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    (sample,) = families["glassai_requests"].samples
    assert (sample.value, sample.labels) == (1, {"model": "lstm", "version": "1"})
    metrics.for_version(LSTM).observe_answer(1e-4, 1e-3)
    assert b'glassai_requests_total{model="lstm",version="1"} 2.0' in metrics.render()


def test_counting_loads_neither_prometheus_client_nor_psutil():
    code = (
        "import sys; from inference.monitoring.metrics import Metrics; Metrics();"
        "print([name for name in ('prometheus_client', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
