"""`/openapi.json`: every route, described by the same structs that read and write the bodies (OpenAPI 3.1)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from inference.protocols.call_limits import ACCEPTED_PRIORITY
from inference.protocols.inference_json import DefectProbability, DefectType, ErrorBody, StreamAnswer, StreamCall
from inference.protocols.open_inference import WireAnswer, WireRequest
from inference.servers import inference_api, open_inference
from inference.servers.exchange import Exchange, Response
from inference.servers.health import Live, Ready
from inference.servers.model_index import ModelIndex
from inference.version import VERSION

Json = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"


class ProbabilityAnswer(StreamAnswer[DefectProbability], frozen=True):
    """The answer of a model of a defect's probability."""


class TypeAnswer(StreamAnswer[DefectType], frozen=True):
    """The answer of a model of a defect's type."""


class TensorsAnswer(StreamAnswer[Json], frozen=True):
    """The answer of a model without model.toml: {output name: values}."""


class OpenError(msgspec.Struct, frozen=True):
    """The body of every error under /v2."""

    error: str


class OpenLive(msgspec.Struct, frozen=True):
    """The body of /v2/health/live, for callers that send `Accept`."""

    live: bool


class OpenReady(msgspec.Struct, frozen=True):
    """The body of /v2/health/ready, for callers that send `Accept`."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    """The body of a model's ready route, for callers that send `Accept`."""

    name: str
    ready: bool


class ServerMetadata(msgspec.Struct, frozen=True):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct, frozen=True):
    """One input or output; a size that is not fixed is -1."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """The signature of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


SCHEMAS = (
    *(StreamCall, ProbabilityAnswer, TypeAnswer, TensorsAnswer, ErrorBody),
    *(WireRequest, WireAnswer, OpenError, OpenLive, OpenReady, ModelReady, ServerMetadata, ModelMetadata),
    *(Live, Ready, ModelIndex),
)

SENSOR_ROW = {
    "timestamp": "2025-12-05T10:00:00Z",
    "furnace_temperature": 1550.0,
    "belt_speed": 150.0,
    "pressure": 15.5,
}
CALLS: Json = {
    "one row of sensors": {"value": {"model_name": "lstm_defect_predictor", "data": SENSOR_ROW}},
    "a row of a production line": {
        "value": {"model_name": "lstm_defect_predictor", "stream_id": "line-3", "data": SENSOR_ROW}
    },
    "a picture": {"value": {"model_name": "vit_defect_detector", "data": {"image": "<base64 of a JPEG or PNG file>"}}},
    "a model without model.toml": {"value": {"model_name": "my_model", "data": {"x": [[1.0, 2.0]]}}},
}
ANSWERS: Json = {
    "probability of a defect": {
        "value": {
            "prediction_id": "pred_5f0c3b1a9d2e000001",
            "model_name": "lstm_defect_predictor",
            "model_version": "1",
            "result": {
                "defect_probability": 0.85,
                "confidence": 0.85,
                "processing_time_ms": 0.4,
                "decision": "defect",
                "input_quality": 1.0,
                "real_rows": 32,
            },
        }
    },
    "type of a defect": {
        "value": {
            "prediction_id": "pred_5f0c3b1a9d2e000002",
            "model_name": "vit_defect_detector",
            "model_version": "1",
            "result": {
                "defect_type": "bubble",
                "confidence": 0.9,
                "probabilities": {"none": 0.04, "bubble": 0.9, "crack": 0.02, "scratch": 0.02, "inclusion": 0.02},
                "processing_time_ms": 4.2,
            },
        }
    },
}
INFER_CALL: Json = {
    "id": "42",
    "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}],
}
INFER_ANSWER: Json = {
    "model_name": "my_model",
    "model_version": "1",
    "id": "42",
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}],
}


async def document(exchange: Exchange) -> Response:
    """GET /openapi.json."""
    return Response(200, encoded())


@functools.cache
def encoded() -> bytes:
    """The document as JSON, made once."""
    return msgspec.json.encode(describe())


def describe() -> Json:
    """The document as an object."""
    schemas, components = msgspec.json.schema_components(SCHEMAS, ref_template=REFERENCE)
    ref: dict[Any, Json] = dict(zip(SCHEMAS, schemas, strict=True))
    for component in components.values():
        if "description" in component:
            component["description"] = " ".join(component["description"].split())
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Glass AI Inference",
            "version": VERSION,
            "summary": "Live predictions for glass plants.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "predictions", "description": "The product's own API: plant records in, decisions out."},
            {"name": "open inference", "description": "Open Inference Protocol v2: tensors in, tensors out."},
            {"name": "server", "description": "Health, metrics and this document."},
        ],
        "paths": {**_predictions(ref), **_open_inference(ref), **_server(ref)},
        "components": {"schemas": components},
    }


def _predictions(ref: Mapping[Any, Json]) -> Json:
    picture = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    answers = [ref[kind] for kind in (ProbabilityAnswer, TypeAnswer, TensorsAnswer)]
    call = _operation(
        "predictions",
        "One prediction",
        _content({"anyOf": answers}, examples=ANSWERS),
        errors=_errors(inference_api.STATUS_BY_REASON, ref[ErrorBody]),
        description="A JSON body, or an image file as the body with the model's name in the query. The same path is a "
        "WebSocket, which OpenAPI cannot describe: opened with model_name, model_version, stream_id, priority and "
        "timeout_ms in the query, each message is the `data` of a call, and each reply what the call would have got, "
        "in the order of the messages.",
    )
    call["parameters"] = [
        _parameter("model_name", "query", "Model for an image body.", required=False),
        _parameter(
            "model_version", "query", "Version for an image body; the highest served one otherwise.", required=False
        ),
        _parameter("priority", "query", f"For an image body: {ACCEPTED_PRIORITY}.", required=False),
        _parameter("timeout_ms", "query", "For an image body: longest time to the answer, ms.", required=False),
        *_limit_headers(),
    ]
    bodies = {**_content(ref[StreamCall], examples=CALLS), "image/jpeg": picture, "image/png": picture}
    call["requestBody"] = {"required": True, "content": bodies}
    index = _operation("predictions", "Models, where they stand, what they take", _content(ref[ModelIndex]))
    return {"/api/inference/stream": {"post": call}, "/api/models": {"get": index}}


def _open_inference(ref: Mapping[Any, Json]) -> Json:
    tag, error = "open inference", ref[OpenError]
    absent = _errors({"model_not_found": 404, "version_not_found": 404, "model_not_ready": 503}, error)
    not_ready = {"503": _response("Not ready.", _content(ref[OpenReady]))}
    server = {"get": _operation(tag, "What the server is", _content(ref[ServerMetadata]))}
    paths: Json = {
        "/v2": server,
        "/v2/": server,
        "/v2/health/live": {"get": _operation(tag, "Whether the server lives", _content(ref[OpenLive]))},
        "/v2/health/ready": {
            "get": _operation(tag, "Whether every required model answers", _content(ref[OpenReady]), errors=not_ready)
        },
    }
    for path, names in (
        ("/v2/models/{name}", ("name",)),
        ("/v2/models/{name}/versions/{version}", ("name", "version")),
    ):
        given = [_parameter(name, "path", f"The model's {name}.") for name in names]
        metadata = _operation(tag, "Signature of a model", _content(ref[ModelMetadata]), errors=absent)
        ready = _operation(tag, "Whether a model answers", _content(ref[ModelReady]), errors=absent)
        infer = _operation(
            tag,
            "Inference",
            {**_content(ref[WireAnswer], example=INFER_ANSWER), **_BINARY},
            errors=_errors(open_inference.STATUS_BY_REASON, error),
            description="Tensors as JSON, or as binary behind the JSON; Inference-Header-Content-Length then says "
            "where the JSON ends. Bodies may be compressed with gzip or deflate.",
        )
        body = {**_content(ref[WireRequest], example=INFER_CALL), **_BINARY}
        infer["requestBody"] = {"required": True, "content": body}
        infer["parameters"] = [
            _parameter("Inference-Header-Content-Length", "header", "Length of the JSON, bytes.", required=False),
            *_limit_headers(),
        ]
        paths[path] = {"parameters": given, "get": metadata}
        paths[f"{path}/ready"] = {"parameters": given, "get": ready}
        paths[f"{path}/infer"] = {"parameters": given, "post": infer}
    return paths


def _server(ref: Mapping[Any, Json]) -> Json:
    def text(kind: str) -> Json:
        return {kind: {"schema": {"type": "string"}}}

    not_ready = {"503": _response("Not ready, with the reasons.", _content(ref[Ready]))}
    pages: dict[str, tuple[str, Json, Json]] = {
        "/health/live": ("Whether the server lives", _content(ref[Live]), {}),
        "/health/ready": ("Whether every required model has answered lately", _content(ref[Ready]), not_ready),
        "/metrics": ("Metrics for Prometheus", text("text/plain"), {}),
        "/openapi.json": ("This document", _content({"type": "object"}), {}),
        "/": ("Start page", text("text/html"), {}),
        "/start_page.css": ("Its style", text("text/css"), {}),
        "/start_page.js": ("Its script", text("text/javascript"), {}),
        "/start_page.svg": ("Its sign", text("image/svg+xml"), {}),
    }
    return {
        path: {"get": _operation("server", summary, content, errors=errors)}
        for path, (summary, content, errors) in pages.items()
    }


_BINARY: Json = {
    "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
}


def _operation(tag: str, summary: str, content: Json, *, errors: Json | None = None, description: str = "") -> Json:
    operation: Json = {"tags": [tag], "summary": summary}
    if description:
        operation["description"] = description
    headers = {"X-Request-ID": {"description": "The caller's id, or one made here.", "schema": {"type": "string"}}}
    operation["responses"] = {"200": {**_response("The answer.", content), "headers": headers}, **(errors or {})}
    return operation


def _response(description: str, content: Json) -> Json:
    return {"description": description, "content": content}


def _content(schema: Json, *, example: Json | None = None, examples: Json | None = None) -> Json:
    content: Json = {"schema": schema}
    if example is not None:
        content["example"] = example
    if examples is not None:
        content["examples"] = examples
    return {"application/json": content}


def _errors(table: Mapping[str, int], schema: Json) -> Json:
    """One response a status, with the reasons that lead to it."""
    reasons: dict[int, list[str]] = {}
    for reason, status in table.items():
        reasons.setdefault(status, []).append(reason)
    return {str(status): _response(_sentence(reasons[status]), _content(schema)) for status in sorted(reasons)}


def _sentence(reasons: Iterable[str]) -> str:
    return f"Reasons: {', '.join(sorted(reasons))}."


def _limit_headers() -> list[Json]:
    return [
        _parameter("X-Priority", "header", f"{ACCEPTED_PRIORITY}; else the model's default.", required=False),
        _parameter("X-Timeout-Ms", "header", "Longest time to the answer, ms; else the model's.", required=False),
    ]


def _parameter(name: str, place: str, description: str, *, required: bool = True) -> Json:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }
