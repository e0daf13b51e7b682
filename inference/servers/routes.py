"""Which handler answers which path: the one table of all routes."""

from __future__ import annotations

import asyncio
from functools import partial

from inference.engine import Engine
from inference.model_manager import ModelManager
from inference.monitoring.logs import PredictionLog
from inference.monitoring.metrics import CONTENT_TYPE, Metrics
from inference.servers import health, openapi, start_page
from inference.servers.exchange import Exchange, Response
from inference.servers.http import STREAM_PATH, App, Handler, Page, PredictRoute, StreamRoute
from inference.servers.inference_api import InferenceApi
from inference.servers.open_inference import OpenInference
from inference.servers.row_stream import RowStream
from inference.settings import Settings


def build_app(
    settings: Settings,
    engine: Engine,
    models: ModelManager,
    metrics: Metrics,
    *,
    product: InferenceApi | None = None,
    metrics_page: Handler | None = None,
) -> App:
    """The application with every route of the server; several processes bring what they do together."""
    product = product or InferenceApi(models, settings, engine.clock)
    protocol = OpenInference(models, settings.server.request_timeout_s, settings.server.json_bytes_max)
    rows = RowStream(product, models, settings.server)
    pages = [
        Page("/health/live", {"GET": health.live}),
        Page("/health/ready", {"GET": partial(health.ready, models=models)}),
        Page("/metrics", {"GET": metrics_page or partial(_metrics, metrics=metrics)}),
        Page("/openapi.json", {"GET": openapi.document}),
        *(Page(path, handlers) for path, handlers in start_page.pages(models).items()),
        *(Page(path, handlers) for path, handlers in protocol.pages().items()),
    ]
    return App(
        engine,
        stream=PredictRoute(STREAM_PATH, product.predict_stream, product.begin),
        stream_rows=StreamRoute(
            rows.open,
            rows.begin,
            metrics.count_connections,
            settings.server.stream_window,
            settings.server.body_bytes_max,
            settings.server.body_timeout_s,
            settings.server.stall_timeout_s,
        ),
        infer=PredictRoute("/v2/models/{name}/infer", protocol.infer, protocol.begin, protocol.refuse_early),
        pages=pages,
        body_bytes_max=settings.server.body_bytes_max,
        receiving_bytes_max=settings.server.receiving_bytes_max,
        observe=metrics.count_response,
        predictions=PredictionLog(settings.logging),
    )


async def _metrics(exchange: Exchange, metrics: Metrics) -> Response:
    """GET /metrics: written in a thread, since it takes milliseconds."""
    return Response(200, await asyncio.to_thread(metrics.render), CONTENT_TYPE)
