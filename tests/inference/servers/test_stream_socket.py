"""The WebSocket at `/api/inference/stream` as callers meet it."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.raw_stream import BINARY, CLOSE, HANDSHAKE, PING, PONG, RawStream, frame, handshake
from tests.inference.servers.test_inference_api import IMAGE_TOML, STREAM, WINDOW_TOML, call, png, row

WINDOW = 4
BODY_BYTES_MAX = 300_000
JSON_BYTES_MAX = 20_000
LIMITS = {
    "GLASSAI_SERVER_STREAM_WINDOW": str(WINDOW),
    "GLASSAI_SERVER_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
    "GLASSAI_SERVER_JSON_BYTES_MAX": str(JSON_BYTES_MAX),
    "GLASSAI_HEALTH_CANARY_INTERVAL_S": "14",  # so that hardly any request waits but those of the tests
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(folder, "window", 1, tiny_models.window_model, WINDOW_TOML)
    tiny_models.package(folder, "picture", 1, tiny_models.image_model, IMAGE_TOML)
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    tiny_models.package(folder, "nan", 1, tiny_models.nan_model)
    tiny_models.package(folder, "slow", 1, lambda path: tiny_models.slow(path, 10))
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[LiveServer]:
    with LiveServer(models, [], LIMITS) as running:
        yield running
        assert "Traceback" not in running.output


def stream(server: LiveServer, query: str, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{STREAM}?{query}", **options)


def number(value: float) -> str:
    return json.dumps({"x": [[value]]})


def ask(connection: ClientConnection, message: str | bytes) -> Any:
    connection.send(message)
    return json.loads(connection.recv(20))


def metric(server: LiveServer, name: str) -> float:
    """The sum over all labels."""
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_for(server: LiveServer, name: str, value: float) -> None:
    end = time.monotonic() + 20
    while (seen := metric(server, name)) != value:
        assert time.monotonic() < end, f"{name} is {seen}, not {value}"


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_a_line_gets_the_numbers_of_the_post(server: LiveServer) -> None:
    rows = [row(n / 10, timestamp=f"2025-12-05T10:{n:02}:00Z") for n in range(8)]
    posted = [server.post(STREAM, call("window", data, stream_id="posted")).json for data in rows]
    with stream(server, "model_name=window&stream_id=streamed&model_version=1") as connection:
        streamed = [ask(connection, json.dumps(data)) for data in rows]
    for one, other in zip(posted, streamed, strict=True):
        assert one.pop("prediction_id") != other.pop("prediction_id")
        assert one["result"].pop("processing_time_ms") > 0
        assert other["result"].pop("processing_time_ms") > 0
        assert one == other
    assert streamed[-1]["result"]["real_rows"] == 4


def test_many_messages_on_their_way_are_answered_in_their_order(server: LiveServer) -> None:
    with stream(server, "model_name=adder") as connection, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: [connection.send(number(n) if n % 5 else "{") for n in range(400)])
        replies = [json.loads(connection.recv(20)) for _ in range(400)]
        sending.result()
    told = [reply["result"]["y"][0][0] if "result" in reply else reply["reason"] for reply in replies]
    assert told == [n + 1.0 if n % 5 else "malformed_body" for n in range(400)]


def test_a_picture_that_takes_longer_keeps_its_place(server: LiveServer) -> None:
    inline = json.dumps({"image": base64.b64encode(png()).decode()})
    with stream(server, "model_name=picture") as connection:
        for message in (png(600), "{}", inline, b"GIF89a", png()):
            connection.send(message)
        replies = [json.loads(connection.recv(20)) for _ in range(5)]
    assert ["result" in reply for reply in replies] == [True, False, True, False, True]
    assert [reply["reason"] for reply in replies if "reason" in reply] == ["invalid_values", "unsupported_media_type"]
    posted = server.call("POST", f"{STREAM}?model_name=picture", png(), {"content-type": "image/png"}).json
    assert replies[4]["result"]["probabilities"] == posted["result"]["probabilities"]


@pytest.mark.parametrize(
    ("model", "message", "reason", "names"),
    [
        ("window", "", "malformed_body", "data"),
        ("window", "[1]", "malformed_body", "object"),
        ("window", "[" * 5000, "malformed_body", "nested"),
        ("window", '{"furnace_temperature": NaN}', "malformed_body", "data"),
        ("window", json.dumps(row(pressur=1)), "unknown_field", "pressur"),
        ("window", json.dumps(row("hot")), "invalid_values", "furnace_temperature"),
        ("window", json.dumps(row(timestamp="noon")), "invalid_values", "timestamp"),
        ("window", b"\x00", "unsupported_media_type", "text with a JSON object"),
        ("window", " " * (JSON_BYTES_MAX + 1), "too_large", "binary message"),
        ("picture", b"", "unsupported_media_type", "image"),
        ("picture", png()[:40], "invalid_image", "image"),
        ("adder", '{"x": [1.0]}', "invalid_values", "data.x"),
        ("nan", number(-1), "non_finite_output", "NaN"),
    ],
)
def test_an_error_is_a_reply_and_closes_nothing(
    server: LiveServer, model: str, message: str | bytes, reason: str, names: str
) -> None:
    with stream(server, f"model_name={model}") as connection:
        refused = ask(connection, message)
        assert refused.keys() == {"error", "reason", "details"}
        assert refused["reason"] == reason
        assert names in refused["error"]
        good = {"window": json.dumps(row()), "picture": png()}.get(model, number(1))
        assert "result" in ask(connection, good)


def test_a_row_conflict_is_told_on_the_line(server: LiveServer) -> None:
    with stream(server, "model_name=window&stream_id=conflict") as connection:
        first = json.dumps(row(0.1, timestamp="2025-12-05T10:00:00Z"))
        assert ask(connection, first)["result"] is not None
        other = ask(connection, json.dumps(row(0.2, timestamp="2025-12-05T10:00:00Z")))
        assert other["reason"] == "row_conflict"
        assert ask(connection, first)["result"]["real_rows"] == 1


def test_the_querys_time_limit_holds_for_each_message(server: LiveServer) -> None:
    with stream(server, "model_name=slow&timeout_ms=1&priority=low") as connection:
        assert ask(connection, number(1))["reason"] in ("deadline_passed", "deadline_unreachable")
        assert ask(connection, number(2))["reason"] in ("deadline_passed", "deadline_unreachable")


def test_an_id_of_the_caller_comes_back(server: LiveServer) -> None:
    with stream(server, "model_name=adder", additional_headers={"X-Request-ID": "shift-7"}) as connection:
        assert connection.response is not None
        assert connection.response.headers["X-Request-ID"] == "shift-7"


# ---- the handshake ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "reason", "names"),
    [
        ("", 422, "invalid_values", "model_name"),
        ("model_name=adder&stream=1", 400, "unknown_field", "stream_id"),
        ("model_name=addr", 404, "model_not_found", "adder"),
        ("model_name=adder&model_version=9", 404, "version_not_found", "1"),
        ("model_name=adder&model_version=new", 400, "malformed_body", "version"),
        ("model_name=adder&priority=urgent", 422, "invalid_values", "critical"),
        ("model_name=adder&timeout_ms=soon", 422, "invalid_values", "timeout_ms"),
        ("model_name=adder&stream_id=L1", 400, "unknown_field", "stream_id"),
        ("model_name=window&stream_id=", 422, "invalid_values", "stream_id"),
        (f"model_name=window&stream_id={'x' * 129}", 422, "invalid_values", "128"),
    ],
)
def test_a_handshake_is_refused_like_any_request(
    server: LiveServer, query: str, status: int, reason: str, names: str
) -> None:
    with pytest.raises(InvalidStatus) as refusal, stream(server, query):
        pass
    response = refusal.value.response
    body = json.loads(response.body)
    assert (response.status_code, body["reason"]) == (status, reason)
    assert names in body["error"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")


def test_header_and_query_that_disagree_are_refused(server: LiveServer) -> None:
    agreeing = {"additional_headers": {"X-Priority": "low"}}
    with stream(server, "model_name=adder&priority=low", **agreeing) as connection:
        assert "result" in ask(connection, number(1))
    with pytest.raises(InvalidStatus, match="422"), stream(server, "model_name=adder&priority=high", **agreeing):
        pass


def origin_of(server: LiveServer, shape: str) -> str:
    return shape.replace("here", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("shape", ["https://elsewhere", "null", "http://[", "http://here.elsewhere"])
def test_pages_of_other_sites_may_not_open_one(server: LiveServer, shape: str) -> None:
    with pytest.raises(InvalidStatus) as refusal, stream(server, "model_name=adder", origin=origin_of(server, shape)):
        pass
    assert refusal.value.response.status_code == 403
    assert json.loads(refusal.value.response.body)["reason"] == "foreign_origin"


@pytest.mark.parametrize("shape", ["http://here", "https://here"])
def test_pages_of_the_server_itself_may(server: LiveServer, shape: str) -> None:
    with stream(server, "model_name=adder", origin=origin_of(server, shape)) as connection:
        assert "result" in ask(connection, number(1))


@pytest.mark.parametrize(
    "headers",
    [
        HANDSHAKE[:2],
        (*HANDSHAKE[:2], "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13"),
        (*HANDSHAKE[:3], "Sec-WebSocket-Version: 8"),
        (*HANDSHAKE, "Content-Length: 2"),
    ],
)
def test_a_malformed_handshake_is_told_what_is_wrong(server: LiveServer, headers: tuple[str, ...]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw, raw.makefile("rb") as reader:
        raw.sendall(handshake(f"{STREAM}?model_name=adder", *headers))
        head, _, body = reader.read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert "Accepted: a GET as in RFC 6455, version 13." in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("request_line", "status", "error"),
    [
        (f"POST {STREAM}?model_name=adder", b"405", "Method Not Allowed: given POST, accepted GET."),
        ("GET /api/inference", b"404", "Not Found: '/api/inference'"),
        ("GET /v2/models/adder/infer", b"404", "Not Found"),
    ],
)
def test_a_websocket_is_at_one_path_and_got(server: LiveServer, request_line: str, status: bytes, error: str) -> None:
    request = handshake("TARGET").replace(b"GET TARGET", request_line.encode())
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw, raw.makefile("rb") as reader:
        raw.sendall(request)
        head, _, body = reader.read().partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert json.loads(body)["error"].startswith(error)


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_a_message_may_come_in_pieces_with_a_ping_between(server: LiveServer) -> None:
    message = number(1).encode()
    with RawStream(server.port, "model_name=adder") as raw:
        raw.send(frame(message[:3], fin=False), frame(b"?", PING), frame(message[3:], 0))
        assert raw.read() == (PONG, b"?")
        assert raw.reply()["result"]["y"] == [[2.0]]
        for n in range(len(message) + 6):  # any cut of the bytes is as good as any other
            both = frame(message)
            raw.send(both[:n])
            raw.send(both[n:])
            assert raw.reply()["result"]["y"] == [[2.0]]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(b"{}", masked=False)], 1002),
        ([frame(b"{}", 3)], 1002),
        ([frame(b"{}", 0)], 1002),
        ([frame(b"x" * 126, PING)], 1002),
        ([frame(b'{"x": "\xff"}')], 1007),
        ([frame(b"x" * (BODY_BYTES_MAX + 1))], 1009),
        ([frame(b"x" * BODY_BYTES_MAX, BINARY, fin=False), frame(b"x", 0)], 1009),
        ([frame(b"\x03\xe8", CLOSE)], 1000),
    ],
)
def test_each_end_has_its_code(server: LiveServer, frames: list[bytes], code: int) -> None:
    with RawStream(server.port, "model_name=adder") as raw:
        raw.send(*frames)
        assert raw.close_code() == code


def test_a_close_code_reaches_who_still_sends(server: LiveServer) -> None:
    with RawStream(server.port, "model_name=adder") as raw:
        raw.send(frame(b"x" * (BODY_BYTES_MAX + 1)), bytes(2_000_000))
        assert raw.close_code() == 1009


# ---- one side slower than the other ----------------------------------------------------------------------------------


def send_until_held_back(raw: RawStream, message: bytes, most: int) -> int:
    """Whole messages that went out before the other side took no more."""
    raw.socket.settimeout(0.3)
    many = memoryview(message * 64)
    sent = 0
    while sent < most * len(message):
        try:
            sent += raw.socket.send(many[sent % len(message) :])
        except TimeoutError:
            break
    raw.socket.settimeout(20)
    rest = -sent % len(message)
    raw.unsent = message[len(message) - rest :]
    return (sent + rest) // len(message)


def test_who_sends_without_reading_is_held_back_and_harms_nobody(server: LiveServer) -> None:
    process = psutil.Process(server.process.pid)
    rows, before = 30_000, process.memory_info().rss
    message = frame(json.dumps({"x": [[0.0]] * 900}))
    with RawStream(server.port, "model_name=adder", receive_bytes=4096) as raw:
        count = send_until_held_back(raw, message, rows)
        assert 0 < count < rows
        assert metric(server, "glassai_requests_pending") <= WINDOW
        assert server.post(STREAM, call("window", row())).status == 200
        assert process.memory_info().rss - before < 40e6
        with ThreadPoolExecutor(1) as pool:  # who then reads misses nothing
            rest = pool.submit(raw.send, raw.unsent)
            for _ in range(count):
                assert len(raw.reply()["result"]["y"]) == 900
            rest.result()
        raw.send(frame(b"\x03\xe8", CLOSE))
        assert raw.close_code() == 1000


def test_a_full_window_takes_no_more(server: LiveServer) -> None:
    with RawStream(server.port, "model_name=slow") as raw:
        raw.send(*[frame(number(n)) for n in range(3 * WINDOW)])
        seen = set()
        for n in range(3 * WINDOW):
            seen.add(metric(server, "glassai_requests_pending"))
            assert raw.reply()["result"]["y"] == [[float(n)]]
        assert max(seen) == WINDOW


def test_who_hangs_up_frees_every_place(server: LiveServer) -> None:
    gone = metric(server, 'glassai_http_responses_total{code="499",method="WS"')
    with RawStream(server.port, "model_name=slow") as raw:
        raw.send(*[frame(number(n)) for n in range(WINDOW)])
        wait_for(server, "glassai_requests_pending", WINDOW)
        assert metric(server, "glassai_stream_connections") == 1
    wait_for(server, "glassai_requests_pending", 0)
    with RawStream(server.port, "model_name=slow") as raw:
        raw.send(*[frame(number(n)) for n in range(WINDOW)])
        wait_for(server, "glassai_requests_pending", WINDOW)
        raw.send(frame(b"\x03\xe8", CLOSE))  # a farewell, as good as none
        wait_for(server, "glassai_requests_pending", 0)
        assert metric(server, 'glassai_http_responses_total{code="499",method="WS"') >= gone + 2
    wait_for(server, "glassai_stream_connections", 0)
