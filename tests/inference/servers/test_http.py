"""The HTTP shell: routes, errors, request ids, and a caller's fault that stays the caller's."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer

INFER = "/v2/models/adder/infer"
STREAM = "/api/inference/stream"
BODY_BYTES_MAX = 200_000
JSON_BYTES_MAX = 150_000


def infer_body(*numbers: float) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [len(numbers), 1], "datatype": "FP32", "data": list(numbers)}]}


GOOD = infer_body(1.0)
X = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    tiny_models.package(models, "nan", 1, tiny_models.nan_model)
    tiny_models.package(models, "sulky", 1, tiny_models.fails_on)
    tiny_models.package(models, "broken", 1, tiny_models.corrupt)
    env = {
        "GLASSAI_SERVER_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
        "GLASSAI_SERVER_JSON_BYTES_MAX": str(JSON_BYTES_MAX),
        "GLASSAI_LOGGING_LEVEL": "DEBUG",
    }
    with LiveServer(models, ["--required", "adder"], env) as running:
        yield running


def test_a_request_id_is_returned_as_given_or_made(server: LiveServer):
    assert server.post(INFER, GOOD, {"x-request-id": "plant-7"}).headers["x-request-id"] == "plant-7"
    made = {server.post(INFER, GOOD).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert all(name.startswith("req_") for name in made)
    assert server.post(INFER, GOOD, {"x-request-id": "x" * 500}).headers["x-request-id"].startswith("req_")


def test_an_unknown_path_is_a_404_and_a_wrong_method_a_405_that_names_the_right_one(server: LiveServer):
    reply = server.get("/api/inference/strem")
    assert (reply.status, reply.json["reason"]) == (404, "not_found")
    reply = server.get(STREAM)
    assert (reply.status, reply.json["reason"], reply.headers["allow"]) == (405, "method_not_allowed", "POST")
    reply = server.call("DELETE", "/health/live")
    assert (reply.status, reply.headers["allow"]) == (405, "GET")


def test_head_answers_without_a_body(server: LiveServer):
    reply = server.call("HEAD", "/health/live")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


def test_health_says_what_is_ready_and_what_failed(server: LiveServer):
    assert server.get("/health/live").json == {"live": True}
    ready = server.get("/health/ready").json
    assert ready["ready"]
    assert ready["models"] == {"adder/1": "ready", "broken/1": "failed", "nan/1": "ready", "sulky/1": "ready"}


def test_a_model_that_could_not_be_loaded_answers_503_with_the_reason(server: LiveServer):
    reply = server.post(STREAM, {"model_name": "broken", "data": {"x": [1]}})
    assert (reply.status, reply.json["reason"]) == (503, "model_not_ready")
    assert "retry-after" in reply.headers
    assert server.get("/v2/models/broken/ready", {"accept": "*/*"}).status == 503


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_compressed_bodies_are_read(server: LiveServer, encoding: str):
    raw = json.dumps(GOOD).encode()
    body = {"gzip": gzip.compress(raw), "deflate": zlib.compress(raw), "identity": raw}[encoding]
    assert server.post(INFER, body, {"content-encoding": encoding}).json["outputs"][0]["data"] == [2.0]


MALFORMED = {
    "empty": b"",
    "not JSON": b"glass",
    "truncated": json.dumps(GOOD).encode()[:-9],
    "deeply nested": b'{"model_name":"adder","data":{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "an array": b"[1,2,3]",
    "a number": b"7",
    "null": b"null",
    "not UTF-8": b'{"model_name":"\xff\xfe"}',
    "NaN": b'{"model_name":"adder","data":{"x":[NaN]}}',
    "control characters": b'{"model_name":"a\x00b","data":{}}',
    "wrong type": b'{"model_name":5,"data":{}}',
    "missing field": b'{"model_name":"adder"}',
    "unknown field": b'{"model_name":"adder","data":{"x":[1]},"modle_version":"1"}',
}


@pytest.mark.parametrize("path", [STREAM, INFER])
@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_body_is_a_400_that_says_what_is_wrong(server: LiveServer, path: str, what: str):
    reply = server.post(path, MALFORMED[what])
    assert reply.status == 400, reply.body
    assert len(reply.json["error"]) > 20
    assert server.post(INFER, GOOD).status == 200


def test_an_oversized_body_is_a_413_however_it_comes(server: LiveServer):
    large = b" " * (BODY_BYTES_MAX + 1)
    assert server.post(INFER, large).status == 413
    assert server.post(INFER, gzip.compress(large), {"content-encoding": "gzip"}).status == 413
    connection = server.connect()
    connection.request("POST", INFER, iter([large[:100_000], large[100_000:]]), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    reply = server.post(STREAM, large)
    assert (reply.status, reply.json["reason"]) == (413, "too_large")
    assert str(BODY_BYTES_MAX) in reply.json["error"]


def test_json_above_its_limit_is_a_413_that_names_the_other_form(server: LiveServer):
    long = infer_body(*range(JSON_BYTES_MAX // 6))
    reply = server.post(INFER, long)
    assert reply.status == 413
    assert "binary" in reply.json["error"]
    reply = server.post(STREAM, {"model_name": "adder", "data": {"x": list(range(JSON_BYTES_MAX // 6))}})
    assert (reply.status, reply.json["reason"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\x1f\x8b broken", {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-6], {"content-encoding": "gzip"}, 400),
        (b"{}", {"content-encoding": "br"}, 415),
        (b"<a/>", {"content-type": "text/xml"}, 415),
    ],
    ids=["not gzip", "cut off", "unknown encoding", "unknown type"],
)
def test_encodings_and_types_that_are_not_read_are_refused_by_name(server: LiveServer, body, headers, status):
    reply = server.post(STREAM, body, headers)
    assert reply.status == status
    assert reply.json["details"] or status == 400


def test_bytes_that_are_not_http_are_a_400_in_json(server: LiveServer):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"GLASS / IS NOT HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["reason"] == "malformed_http"


def test_a_caller_who_expects_to_be_asked_for_the_body_is_refused_before_sending_it(server: LiveServer):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        head = (
            f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES_MAX + 1}\r\nexpect: 100-continue\r\n\r\n"
        )
        raw.sendall(head.encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


WRONG_INPUTS = {
    "wrong shape": {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]},
    "wrong datatype": {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [1]}]},
    "missing input": {"inputs": []},
    "extra input": {"inputs": [X, {"name": "y", "shape": [1], "datatype": "FP32", "data": [1]}]},
    "no rows": {"inputs": [{"name": "x", "shape": [0, 1], "datatype": "FP32", "data": []}]},
    "count and shape disagree": {"inputs": [{"name": "x", "shape": [3, 1], "datatype": "FP32", "data": [1]}]},
}


@pytest.mark.parametrize("what", WRONG_INPUTS)
def test_wrong_inputs_are_a_400_that_names_the_input(server: LiveServer, what: str):
    reply = server.post(INFER, WRONG_INPUTS[what])
    assert reply.status == 400
    assert "x" in reply.json["error"] or "inputs" in reply.json["error"]


def test_nan_is_an_error_in_json_that_names_the_binary_form(server: LiveServer):
    reply = server.post("/v2/models/nan/infer", infer_body(-1.0))
    assert 400 <= reply.status < 500
    assert "binary" in reply.json["error"]
    assert server.post("/v2/models/nan/infer", infer_body(1.0)).json["outputs"][0]["data"] == [0.0]
    reply = server.post(STREAM, {"model_name": "nan", "data": {"x": [[-1.0]]}})
    assert reply.json["reason"] == "non_finite_output"


def test_inputs_that_the_model_cannot_run_fail_alone(server: LiveServer):
    """One caller sends what makes the model fail while others ask in earnest: nobody else notices."""
    stop = threading.Event()

    def pester() -> set[int]:
        seen = set()
        while not stop.is_set():
            seen.add(server.post("/v2/models/sulky/infer", infer_body(13.0)).status)
            seen.add(server.post("/v2/models/sulky/infer", WRONG_INPUTS["wrong shape"]).status)
        return seen

    def ask(worker: int) -> list[object]:
        return [
            server.post("/v2/models/sulky/infer", infer_body(worker, n)).json["outputs"][0]["data"]
            for n in range(20, 60)
        ]

    with ThreadPoolExecutor(9) as pool:
        pestering = pool.submit(pester)
        answers = [pool.submit(ask, worker) for worker in range(8)]
        for worker, answer in enumerate(answers):
            assert answer.result() == [[worker, n] for n in range(20, 60)]
        stop.set()
        assert pestering.result() == {400}


def test_pipelined_requests_are_answered_in_order(server: LiveServer):
    requests = b""
    for n in range(20):
        body = json.dumps(infer_body(n)).encode()
        requests += b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (INFER.encode(), len(body), body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(requests)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 20 or not answer.endswith(b"}"):
            part = raw.recv(65536)
            assert part, answer[-500:]
            answer += part
    numbers = [json.loads(part[part.index(b"{") :].split(b"HTTP/1.1")[0]) for part in answer.split(b"\r\n\r\n")[1:]]
    assert [number["outputs"][0]["data"] for number in numbers] == [[n + 1.0] for n in range(20)]


def test_errors_are_counted_by_route_and_reason_and_logged_with_the_field(server: LiveServer):
    server.post(STREAM, {"model_name": "adder", "data": {"y": [1]}}, {"x-request-id": "to-be-found"})
    metrics = server.get("/metrics").body.decode()
    assert f'route="{STREAM}"' in metrics
    line = json.loads(server.line("to-be-found"))
    assert (line["level"], line["logger"], line["reason"]) == ("debug", "inference.servers.http", "unknown_field")
    assert line["faults"] == ["data.y: given an unknown field, accepted one of x"]
    assert line["event"].startswith("Unknown field 'y' in data.")


def test_a_prediction_is_logged_at_debug_with_ids_and_bounded_values(server: LiveServer):
    server.post(INFER, infer_body(*range(3000)), {"x-request-id": "logged-at-debug"})
    text = server.line("logged-at-debug")
    assert len(text) < 4000
    line = json.loads(text)
    assert (line["event"], line["model"], line["version"]) == ("prediction", "adder", 1)
    assert line["prediction_id"]
    assert 1 <= line["batch_rows"] <= 3000
    assert line["queue_ms"] >= 0
    assert line["run_ms"] > 0
    assert line["inputs"]["x"] == {"datatype": "FP32", "shape": [3000, 1], "values": list(range(16))}
    assert line["outputs"]["y"]["values"] == list(range(1, 17))


def test_nothing_is_logged_of_a_prediction_at_info(bundled_server: LiveServer):
    reply = bundled_server.get("/health/live", {"x-request-id": "never-logged"})
    assert reply.status == 200
    body = {
        "model_name": "lstm_defect_predictor",
        "data": {"furnace_temperature": 1550, "belt_speed": 150, "pressure": 15},
    }
    assert bundled_server.post(STREAM, body, {"x-request-id": "never-logged"}).status == 200
    assert "never-logged" not in bundled_server.output
