"""The table of routes: every path that the start page and the documents speak of is answered."""

from __future__ import annotations

import pytest

from tests.inference.live_server import LiveServer

ANSWERED = {
    "/": "text/html",
    "/health/live": "application/json",
    "/health/ready": "application/json",
    "/metrics": "text/plain",
    "/openapi.json": "application/json",
    "/api/models": "application/json",
    "/v2": "application/json",
    "/v2/models/lstm_defect_predictor": "application/json",
    "/v2/models/lstm_defect_predictor/versions/1": "application/json",
}


@pytest.mark.parametrize("path", ANSWERED)
def test_every_page_is_answered(bundled_server: LiveServer, path: str):
    reply = bundled_server.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(ANSWERED[path])
    assert reply.headers["x-request-id"]
