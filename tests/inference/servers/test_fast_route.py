"""The fast way answers as the ordinary way does, byte for byte, and takes nothing but plain requests."""

from __future__ import annotations

import importlib.metadata
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from inference.servers import fast_route
from tests.inference import raw_http, tiny_models
from tests.inference.live_server import LiveServer, Reply
from tests.inference.raw_http import connect

INFER = "/v2/models/adder/infer"
STREAM = "/api/inference/stream"
IDS_AND_TIMES = re.compile(rb'"(prediction_id|processing_time_ms)":("[^"]*"|[0-9.]+)')


def infer_body(*numbers: float) -> bytes:
    tensor = {"name": "x", "shape": [len(numbers), 1], "datatype": "FP32", "data": list(numbers)}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    tiny_models.package(models, "nan", 1, tiny_models.nan_model)
    tiny_models.package(models, "broken", 1, tiny_models.corrupt)
    with LiveServer(models, ["--required", "adder"]) as running:
        yield running


def fast(server: LiveServer, path: str, body: bytes) -> Reply:
    """By hand, since `http.client` asks for an encoding, and is answered the ordinary way."""
    with connect(server.port) as raw:
        raw.sendall(wire(path, body, "content-type: application/json"))
        return raw_http.read_answers(raw, 1)[0]


def ordinary(server: LiveServer, path: str, body: bytes) -> Reply:
    """The same request in chunks, which the fast way leaves alone."""
    with closing(server.connect()) as connection:
        headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
        connection.request("POST", path, iter([body]) if body else iter([]), headers, encode_chunked=True)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


REQUESTS = {
    "a prediction": (INFER, infer_body(1.0)),
    "many rows": (INFER, infer_body(*range(500))),
    "a version": ("/v2/models/adder/versions/1/infer", infer_body(1.0)),
    "the product's own": (STREAM, b'{"model_name":"adder","data":{"x":[[1.5]]}}'),
    "malformed": (INFER, b"{"),
    "empty": (STREAM, b""),
    "unknown field": (STREAM, b'{"model_name":"adder","data":{"x":[[1]]},"hurry":true}'),
    "unknown model": ("/v2/models/addr/infer", infer_body(1.0)),
    "unknown version": ("/v2/models/adder/versions/7/infer", infer_body(1.0)),
    "a version that is no number": ("/v2/models/adder/versions/x/infer", infer_body(1.0)),
    "not ready": (STREAM, b'{"model_name":"broken","data":{}}'),
    "wrong shape": (INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'),
    "NaN": (STREAM, b'{"model_name":"nan","data":{"x":[[-1]]}}'),
    "a query": (STREAM + "?model_name=adder", b'{"model_name":"adder","data":{"x":[[1]]}}'),
    "binary": (INFER, infer_body(1.0)[:-1] + b',"parameters":{"binary_data_output":true}}'),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_both_ways_answer_alike(server: LiveServer, what: str):
    one, other = (way(server, *REQUESTS[what]) for way in (fast, ordinary))
    assert one.status == other.status
    assert IDS_AND_TIMES.sub(b"", one.body) == IDS_AND_TIMES.sub(b"", other.body)
    same = {name: value for name, value in one.headers.items() if name not in ("date", "x-request-id")}
    likewise = {name: value for name, value in other.headers.items() if name not in ("date", "x-request-id")}
    if what == "the product's own" or "processing_time_ms" in one.body.decode(errors="replace"):
        same.pop("content-length"), likewise.pop("content-length")
    assert same == likewise
    assert one.headers["x-request-id"] != other.headers["x-request-id"]


def read_answers(raw: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of `count` answers on one connection."""
    reader = raw.makefile("rb")
    answers = []
    for _ in range(count):
        status = int(reader.readline().split()[1])
        length = 0
        while (line := reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        answers.append((status, reader.read(length)))
    reader.close()
    return answers


def wire(path: str, body: bytes, *extra: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *extra, "", ""]
    return "\r\n".join(head).encode() + body


def test_a_pipeline_of_every_kind_is_answered_in_order(server: LiveServer):
    numbers = range(60)
    kinds = [
        lambda n: wire(INFER, infer_body(n)),
        lambda n: wire(INFER, infer_body(n), "accept-encoding: gzip"),  # the ordinary way
        lambda n: wire(INFER, b"{"),
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"".join(kinds[n % 3](n) for n in numbers))
        answers = read_answers(raw, len(numbers))
    assert [status for status, _ in answers] == [400 if n % 3 == 2 else 200 for n in numbers]
    told = [json.loads(body)["outputs"][0]["data"] for status, body in answers if status == 200]
    assert told == [[n + 1.0] for n in numbers if n % 3 != 2]


def test_a_long_pipeline_of_refusals_does_not_run_ever_deeper(server: LiveServer):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(wire(INFER, b"{") * 2000)
        assert {status for status, _ in read_answers(raw, 2000)} == {400}


@pytest.mark.parametrize(("version", "header"), [("1.1", "connection: close"), ("1.0", "host: x")])
def test_the_connection_is_closed_when_the_caller_says_so(server: LiveServer, version: str, header: str):
    body = infer_body(1.0)
    head = f"POST {INFER} HTTP/{version}\r\n{header}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_a_body_that_comes_in_pieces_is_waited_for(server: LiveServer):
    message = wire(INFER, infer_body(1.0, 2.0))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(message), 40):
            raw.sendall(message[place : place + 40])
        ((status, _),) = read_answers(raw, 1)
    assert status == 200


def test_who_leaves_in_the_middle_of_the_body_harms_nobody(server: LiveServer):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(wire(INFER, infer_body(1.0))[:-5])
    assert server.post(INFER, infer_body(1.0)).status == 200
    assert "Traceback" not in server.output


def test_one_connection_serves_many_requests(server: LiveServer):
    with connect(server.port) as raw:
        for number in range(200):
            raw.sendall(wire(INFER, infer_body(number)))
            assert raw_http.read_answers(raw, 1)[0].json["outputs"][0]["data"] == [number + 1.0]


def test_what_is_used_of_uvicorn_is_there():
    """uvicorn is pinned to its minor version; whoever moves it reads here what has to be looked at."""
    assert importlib.metadata.version("uvicorn").startswith("0.54.")
    for name in ("on_message_begin", "on_headers_complete", "on_message_complete", "connection_lost"):
        assert callable(getattr(HttpToolsProtocol, name))
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n"
    begun = {"url", "headers", "expect_100_continue", "scope"}
    assert begun <= set(HttpToolsProtocol.on_message_begin.__code__.co_names)
    used = {"scope", "body", "more_body", "keep_alive", "message_event", "disconnected", "response_complete"}
    assert used <= set(RequestResponseCycle.__init__.__code__.co_names)


def test_the_file_stays_small_and_has_no_error_of_its_own():
    text = Path(fast_route.__file__).read_text()
    assert text.count("\n") < 250
    assert "raise " not in text
    assert not re.search(r"json|decode\(|parse_|\bparse\b", text.split('"""', 2)[2])
