"""The document describes every route and nothing else, by schemas that the real answers fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inference.engine import Engine
from inference.model_manager import ModelManager
from inference.monitoring.metrics import Metrics
from inference.protocols.inference_json import DefectProbability, DefectType, StreamAnswer, StreamCall
from inference.protocols.open_inference import WireAnswer, WireRequest
from inference.runtime.function_session import FunctionSessionProvider
from inference.servers import health, inference_api, open_inference, openapi
from inference.servers.http import STREAM_PATH
from inference.servers.routes import build_app
from inference.settings import Settings
from inference.version import VERSION
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer

DOCUMENT = openapi.describe()
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
INFER_PATHS = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    with LiveServer(folder, ["--required", "adder"]) as running:
        yield running


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def nodes(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_every_served_route_is_described_and_every_described_route_is_served():
    settings = Settings()
    engine = Engine()
    models = ModelManager(settings, engine, FunctionSessionProvider({}), Metrics())
    app = build_app(settings, engine, models, Metrics())
    served = {(STREAM_PATH, "post"), *((path, "post") for path in INFER_PATHS)}
    for route in app._router.routes:
        served |= {(route.path, method.lower()) for method in route.endpoint.page.handlers}
    assert {(path, method) for path, method, _ in operations()} == served


def test_it_says_what_it_is():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == VERSION
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for path, method, operation in operations():
        assert operation["summary"], (path, method)
        assert set(operation["tags"]) <= tags


def test_every_reference_leads_to_a_schema_and_every_schema_is_used():
    schemas = DOCUMENT["components"]["schemas"]
    referred = {node["$ref"].removeprefix("#/components/schemas/") for node in nodes(DOCUMENT) if "$ref" in node}
    assert referred == set(schemas)
    for name, schema in schemas.items():
        assert schema["description"], name
        assert "\n" not in schema["description"]


def test_parameters_of_a_path_are_declared():
    for path, item in DOCUMENT["paths"].items():
        declared = {parameter["name"] for parameter in item.get("parameters", ()) if parameter["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


def test_every_status_that_an_error_can_have_is_described():
    stream = DOCUMENT["paths"][STREAM_PATH]["post"]["responses"]
    assert {int(status) for status in stream} - {200} == set(inference_api.STATUS_BY_REASON.values())
    for reason, status in inference_api.STATUS_BY_REASON.items():
        assert reason in stream[str(status)]["description"]
    for path in INFER_PATHS:
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        assert {int(status) for status in responses} - {200} == set(open_inference.STATUS_BY_REASON.values())


def test_examples_are_read_by_the_structs_that_read_real_bodies():
    for example in openapi.CALLS.values():
        msgspec.convert(example["value"], StreamCall)
    probability, kind = openapi.ANSWERS.values()
    msgspec.convert(probability["value"], StreamAnswer[DefectProbability])
    msgspec.convert(kind["value"], StreamAnswer[DefectType])
    msgspec.json.decode(msgspec.json.encode(openapi.INFER_CALL), type=WireRequest)
    msgspec.convert(openapi.INFER_ANSWER, WireAnswer)


def test_real_answers_fit_what_is_described(server: LiveServer):
    accept = {"accept": "application/json"}
    for path, kind in (
        ("/v2", openapi.ServerMetadata),
        ("/v2/health/live", openapi.OpenLive),
        ("/v2/health/ready", openapi.OpenReady),
        ("/v2/models/adder", openapi.ModelMetadata),
        ("/v2/models/adder/ready", openapi.ModelReady),
        ("/health/live", health.Live),
        ("/health/ready", health.Ready),
        ("/api/models", openapi.ModelIndex),
    ):
        reply = server.get(path, accept)
        read = msgspec.json.decode(reply.body, type=kind)
        assert reply.status == 200, path
        assert msgspec.json.decode(msgspec.json.encode(read)) == reply.json, f"{path}: a field is not described"
    assert set(server.get("/v2/models/none").json) == {"error"}


def test_the_document_is_served_as_json(server: LiveServer):
    reply = server.get("/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.body == msgspec.json.encode(DOCUMENT)


def test_it_is_made_once():
    assert openapi.encoded() is openapi.encoded()


def test_links_in_texts_lead_to_documents():
    root = Path(__file__).parents[3]
    for page in re.findall(r"docs/\w+\.md", openapi.encoded().decode()):
        assert (root / page).exists(), page
