"""Health as an orchestrator reads it; what makes a model ready is tested with the model manager."""

from __future__ import annotations

from pathlib import Path

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer


def test_readiness_waits_for_required_models_and_says_which(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    with LiveServer(tmp_path, ["--required", "adder", "--required", "missing"], wait_ready=False) as server:
        reply = server.get("/health/ready")
        assert reply.status == 503
        assert any("missing" in reason for reason in reply.json["reasons"])
        assert server.get("/health/live").status == 200
        assert server.get("/v2/health/ready").status == 503


def test_the_bundled_models_make_the_server_ready(bundled_server: LiveServer):
    assert bundled_server.get("/health/ready").json == {
        "ready": True,
        "reasons": [],
        "models": {"lstm_defect_predictor/1": "ready", "vit_defect_detector/1": "ready"},
    }
