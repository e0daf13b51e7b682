"""The fast route and the ordinary one answer alike: equal status, headers and body but for date, ids and times."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer, Reply
from tests.inference.raw_http import INFER, STREAM, chunks, connect, head, infer_body, read_answer, read_answers, wire
from tests.inference.servers.test_inference_api import WINDOW_TOML

IDS_AND_TIMES = re.compile(rb'"(prediction_id|processing_time_ms)":("[^"]*"|[0-9.]+)')
BODY_BYTES_MAX = 200_000
JSON_BYTES_MAX = 150_000
X = {"name": "x", "shape": [1, 1], "datatype": "FP32"}
ADDER = b'{"model_name":"adder","data":{"x":[[1.5]]}}'


class Talk(NamedTuple):
    """Bytes for one connection, and how many answers to expect; 0: read until the server closes."""

    message: bytes
    answers: int = 1


def infer(**fields: object) -> bytes:
    return wire(INFER, json.dumps({"inputs": [{**X, "data": [1.0]}], **fields}).encode())


def inputs(**fields: object) -> bytes:
    return wire(INFER, json.dumps({"inputs": [{**X, "data": [1.0], **fields}]}).encode())


def binary(blob: bytes, size: int, *headers: str, cut: int = 0) -> bytes:
    text = json.dumps({"inputs": [{**X, "parameters": {"binary_data_size": size}}]}).encode()
    return wire(INFER, text + blob, f"inference-header-content-length: {len(text) - cut}", *headers)


def row(second: int, pressure: object, line: str = "L1") -> bytes:
    values = {"furnace_temperature": 0.5, "belt_speed": 0.1, "pressure": pressure}
    data = {"timestamp": f"2026-01-01T00:00:{second:02}Z", **values}
    return wire(STREAM, json.dumps({"model_name": "window", "stream_id": line, "data": data}).encode())


ONE = infer_body(1.0)
TALKS = {
    # plain ones
    "a prediction": Talk(infer()),
    "many rows": Talk(wire(INFER, infer_body(*range(500)))),
    "64 KiB": Talk(wire(INFER, ONE + b" " * (65_536 - len(ONE)))),
    "64 KiB and a byte": Talk(wire(INFER, ONE + b" " * (65_537 - len(ONE)))),
    "a version": Talk(wire("/v2/models/adder/versions/1/infer", ONE)),
    "an escaped path": Talk(wire("/v2/models/%61dder/infer", ONE)),
    "an id": Talk(infer(id="42")),
    "an id that needs escapes": Talk(infer(id='"\n\u2028é')),
    "the product's own": Talk(wire(STREAM, ADDER)),
    "its content type": Talk(wire(STREAM, ADDER, "content-type: application/json; charset=utf-8")),
    "binary outputs": Talk(infer(parameters={"binary_data_output": True})),
    "binary inputs": Talk(binary(b"\x00\x00\x80\x3f", 4)),
    "raw binary": Talk(wire(INFER, b"\x00\x00\x80\x3f", "inference-header-content-length: 0")),
    "a request id": Talk(wire(INFER, ONE, "x-request-id: plant-7")),
    "a long request id": Talk(wire(INFER, ONE, "x-request-id: " + "x" * 200)),
    "priority and timeout": Talk(wire(INFER, ONE, "x-priority: high", "x-timeout-ms: 20000")),
    "a row": Talk(row(1, 0.5, "own")),
    "rows of a line, one of them again": Talk(row(1, 0.5) + row(2, 0.6) + row(2, 0.6) + row(3, 0.7), 4),
    "a row that contradicts": Talk(row(4, 0.5) + row(4, 0.6), 2),
    "a row out of range": Talk(row(5, 1e9)),
    # bodies at fault
    "empty": Talk(wire(INFER, b"")),
    "empty, the product's own": Talk(wire(STREAM, b"")),
    "malformed": Talk(wire(INFER, b"{")),
    "NaN": Talk(wire(STREAM, b'{"model_name":"adder","data":{"x":[[NaN]]}}')),
    "not UTF-8": Talk(wire(STREAM, b'{"model_name":"\xff","data":{}}')),
    "too deep": Talk(wire(STREAM, b'{"model_name":"adder","data":{"x":' + b"[" * 80 + b"]" * 80 + b"}}")),
    "deep tensors": Talk(wire(INFER, b'{"inputs":' + b"[" * 5000)),
    "unknown field": Talk(wire(STREAM, b'{"model_name":"adder","data":{"x":[[1]]},"hurry":true}')),
    "another unknown field": Talk(infer(hurry=True)),
    "a missing field": Talk(wire(STREAM, b'{"model_name":"adder"}')),
    "a wrong type": Talk(wire(STREAM, b'{"model_name":7,"data":{}}')),
    "wrong shape": Talk(inputs(shape=[1, 2])),
    "wrong datatype": Talk(inputs(datatype="INT64")),
    "no such datatype": Talk(inputs(datatype="FP12")),
    "a bool among numbers": Talk(inputs(data=[True])),
    "an overflow": Talk(inputs(data=[1e300])),
    "no inputs": Talk(infer(inputs=[])),
    "a wrong output": Talk(infer(outputs=[{"name": "z"}])),
    "a priority that is none": Talk(wire(INFER, ONE, "x-priority: urgent")),
    "a timeout that is none": Talk(wire(STREAM, ADDER, "x-timeout-ms: soon")),
    "a binary size that lies": Talk(binary(b"\x00\x00\x80\x3f", 8)),
    "a header length that lies": Talk(binary(b"\x00\x00\x80\x3f", 4, cut=3)),
    "a header length that is none": Talk(wire(INFER, ONE, "inference-header-content-length: x")),
    "NaN in the answer": Talk(wire("/v2/models/nan/infer", infer_body(-1.0))),
    "NaN in the product's answer": Talk(wire(STREAM, b'{"model_name":"nan","data":{"x":[[-1]]}}')),
    "unknown model": Talk(wire("/v2/models/addr/infer", ONE)),
    "unknown model, the product's own": Talk(wire(STREAM, b'{"model_name":"addr","data":{}}')),
    "unknown version": Talk(wire("/v2/models/adder/versions/7/infer", ONE)),
    "a version that is no number": Talk(wire("/v2/models/adder/versions/x/infer", ONE)),
    "not ready": Talk(wire("/v2/models/broken/infer", ONE)),
    "a query": Talk(wire(STREAM + "?model_name=adder", ADDER)),
    "another content type": Talk(wire(STREAM, ADDER, "content-type: text/xml")),
    "an image for no image model": Talk(wire(STREAM + "?model_name=adder", b"\x89PNG", "content-type: image/png")),
    "JSON above its limit": Talk(wire(INFER, ONE + b" " * JSON_BYTES_MAX)),
    "a body above its limit": Talk(wire(INFER, b" " * (BODY_BYTES_MAX + 1))),
    # encodings and framings
    "gzip": Talk(wire(INFER, gzip.compress(ONE, mtime=0), "content-encoding: gzip")),
    "deflate": Talk(wire(STREAM, zlib.compress(ADDER), "content-encoding: deflate")),
    "gzip that is none": Talk(wire(INFER, ONE, "content-encoding: gzip")),
    "gzip of too much": Talk(wire(INFER, gzip.compress(bytes(9_000_000), mtime=0), "content-encoding: gzip")),
    "brotli": Talk(wire(INFER, ONE, "content-encoding: br")),
    "an answer in gzip": Talk(wire(INFER, infer_body(*range(500)), "accept-encoding: gzip")),
    "chunks": Talk(head(INFER, "transfer-encoding: chunked") + chunks([ONE[:9], ONE[9:]])),
    "chunks of nothing": Talk(head(INFER, "transfer-encoding: chunked") + chunks([])),
    "chunks of too much": Talk(head(INFER, "transfer-encoding: chunked") + chunks([b" " * 50_000] * 5)),
    "expect": Talk(wire(INFER, ONE, "expect: 100-continue")),
    "expect, refused": Talk(head(INFER, f"content-length: {BODY_BYTES_MAX + 1}", "expect: 100-continue"), 0),
    # connections
    "close": Talk(wire(INFER, ONE, "connection: close"), 0),
    "close after a refusal": Talk(wire(INFER, b"{", "connection: close"), 0),
    "HTTP/1.0": Talk(head(INFER, f"content-length: {len(ONE)}", version="1.0") + ONE, 0),
    "HTTP/1.0 that would stay": Talk(
        head(INFER, f"content-length: {len(ONE)}", "connection: keep-alive", version="1.0") + ONE, 0
    ),
    "a pipeline": Talk((infer() + wire(INFER, b"{") + wire(STREAM, ADDER) + head("/v2", method="GET")) * 20, 80),
    "a pipeline that ends in no HTTP": Talk(infer() * 3 + b"GLASS\r\n\r\n", 0),
    "a pipeline behind close": Talk(infer() + wire(INFER, ONE, "connection: close") + infer(), 0),
    "a wish for HTTP/2": Talk(wire(INFER, ONE, "connection: upgrade", "upgrade: h2c")),
    "headers above their limit": Talk(head(INFER, "a: " + "x" * 40_000), 0),
    "no HTTP": Talk(b"\x16\x03\x01\r\n\r\n", 0),
    # methods and paths
    "GET": Talk(head(STREAM, method="GET")),
    "OPTIONS": Talk(head(INFER, method="OPTIONS")),
    "OPTIONS *": Talk(head("*", method="OPTIONS")),
    "PUT with a body": Talk(wire(INFER, ONE, method="PUT") + infer(), 2),
    "DELETE": Talk(head(INFER, method="DELETE")),
    "HEAD": Talk(head(INFER, "connection: close", method="HEAD"), 0),
    "HEAD of health": Talk(head("/health/live", "connection: close", method="HEAD"), 0),
    "no such path": Talk(wire("/v2/models/adder/infer/", ONE)),
    "an escaped slash": Talk(wire("/v2/models/ad%2Fder/infer", ONE)),
    "an absolute path": Talk(wire("http://x" + INFER, ONE)),
    "metadata": Talk(head("/v2/models/adder", method="GET")),
    "health": Talk(head("/v2/health/ready", "accept: */*", method="GET")),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LiveServer]]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    tiny_models.package(models, "nan", 1, tiny_models.nan_model)
    tiny_models.package(models, "broken", 1, tiny_models.corrupt)
    tiny_models.package(models, "window", 1, tiny_models.window_model, WINDOW_TOML)
    required = ["--required", "adder", "--required", "window", "--required", "nan"]
    env = {
        "GLASSAI_SERVER_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
        "GLASSAI_SERVER_JSON_BYTES_MAX": str(JSON_BYTES_MAX),
    }
    made = [LiveServer(models, required, {**env, "GLASSAI_SERVER_FAST_ROUTE": way}) for way in ("true", "false")]
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        yield list(pool.map(stack.enter_context, made))


def answers(server: LiveServer, talk: Talk) -> list[Reply]:
    with connect(server.port) as raw:
        raw.sendall(talk.message)
        if talk.answers:
            return read_answers(raw, talk.answers)
        with raw.makefile("rb") as reader:
            bodiless = talk.message.startswith(b"HEAD")
            return list(iter(lambda: read_answer(reader, bodiless=bodiless), None))


def compared(reply: Reply, message: bytes) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs from one request to the next."""
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    if headers.get("x-request-id", "").encode() not in message:
        headers["x-request-id"] = "made here"
    if IDS_AND_TIMES.search(reply.body):
        del headers["content-length"]
    return reply.status, headers, IDS_AND_TIMES.sub(b"", reply.body)


@pytest.mark.parametrize("what", TALKS)
def test_both_ways_answer_alike(servers: list[LiveServer], what: str):
    talk = TALKS[what]
    fast, ordinary = ([compared(reply, talk.message) for reply in answers(server, talk)] for server in servers)
    assert fast == ordinary
    assert fast, "nothing was answered"


def test_the_talks_cover_both_outcomes_and_both_ways(servers: list[LiveServer]):
    assert len(TALKS) >= 60
    talks = ("a prediction", "malformed", "the product's own")
    counts = [sum(len(answers(server, TALKS[what])) for what in talks) for server in servers]
    assert counts == [3, 3]
    metrics = [server.get("/metrics").body.decode() for server in servers]
    seen = [set(re.findall(r'glassai_http_\w+_total{[^}]*route="(?:/api|/v2)[^}]*}', text)) for text in metrics]
    assert seen[0] == seen[1], "both ways count under the same labels"
    assert len(seen[0]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("way", ["true", "false"])
def test_the_same_tests_pass_both_ways(way: str):
    """The tests of both APIs and of stopping, as they are, against servers with the setting."""
    names = ("http", "inference_api", "open_inference_clients", "fast_route", "lifecycle")
    files = [f"tests/inference/servers/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", *files]
    env = {**os.environ, "GLASSAI_SERVER_FAST_ROUTE": way}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
