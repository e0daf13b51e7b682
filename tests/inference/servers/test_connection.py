"""Limits of one connection: who is too slow, too long or too much is told so, and nobody else notices."""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httptools
import psutil
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inference.servers.connection import HEADERS_MAX, LEAVING_MAX
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.raw_http import (
    INFER,
    chunks,
    connect,
    drip,
    head,
    infer_body,
    read_answers,
    talk,
    wire,
)

HEADER_BYTES_MAX = 8192
BODY_BYTES_MAX = 1_500_000
INTERVAL_S = 0.02  # between two bytes of a slow caller
GOOD = wire(INFER, infer_body(1.0))
LIMITS = {
    "GLASSAI_SERVER_HEADER_TIMEOUT_S": "0.3",
    "GLASSAI_SERVER_STALL_TIMEOUT_S": "0.4",
    "GLASSAI_SERVER_BODY_TIMEOUT_S": "1",
    "GLASSAI_SERVER_KEEP_ALIVE_S": "1",
    "GLASSAI_SERVER_HEADER_BYTES_MAX": str(HEADER_BYTES_MAX),
    "GLASSAI_SERVER_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
}


WAYS = [pytest.param("true", id="fast"), pytest.param("false", id="ordinary", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    with LiveServer(models, ["--required", "adder"], {**LIMITS, "GLASSAI_SERVER_FAST_ROUTE": request.param}) as running:
        yield running
        assert "Traceback" not in running.output


# ---- slow callers ----------------------------------------------------------------------------------------------------


def test_who_says_nothing_is_hung_up_on_without_a_word(server: LiveServer):
    assert talk(server.port) == []


def test_a_head_that_drips_is_a_408(server: LiveServer):
    (answer,) = drip(server.port, b"GET /health/live HTTP/1.1\r\n", lambda: b"a: b\r\n", INTERVAL_S)
    assert (answer.status, answer.json["reason"]) == (408, "caller_too_slow")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("framing", ["content-length: 1000000", "transfer-encoding: chunked"])
def test_a_body_that_stalls_or_drips_is_a_408(server: LiveServer, framing: str):
    chunk = b"1\r\n \r\n" if "chunked" in framing else b" "
    for parts in (lambda: b"", lambda: chunk):
        (answer,) = drip(server.port, head(INFER, framing), parts, INTERVAL_S)
        assert (answer.status, answer.json["reason"]) == (408, "caller_too_slow")
        assert answer.json["details"][0]["field"] == "body"


def test_a_body_that_never_ends_is_a_408_however_well_it_moves(server: LiveServer):
    (answer,) = drip(server.port, head(INFER, "content-length: 1400000"), lambda: b" " * 2000, INTERVAL_S)
    assert answer.status == 408


def test_a_slow_body_is_waited_for(server: LiveServer):
    body = infer_body(1.0) + b" " * 20_000
    with connect(server.port) as raw:
        raw.sendall(head(INFER, f"content-length: {len(body)}"))
        for place in range(0, len(body), 2000):
            raw.sendall(body[place : place + 2000])
            time.sleep(INTERVAL_S)  # the caller is slow
        (answer,) = read_answers(raw, 1)
    assert answer.status == 200


@pytest.mark.parametrize("more", [b"", b"\r\n"], ids=["silent", "sends empty lines"])
def test_an_idle_connection_is_closed_without_a_word(server: LiveServer, more: bytes):
    (answer,) = drip(server.port, GOOD, lambda: more, INTERVAL_S)
    assert answer.status == 200


def test_who_never_reads_the_answers_is_dropped(server: LiveServer):
    ours = psutil.Process(server.process.pid)
    with connect(server.port) as raw:
        name = raw.getsockname()
        body = infer_body(*range(20_000))
        with suppress(OSError):
            raw.settimeout(0.2)
            for _ in range(300):  # some 100 MB of answers
                raw.sendall(wire(INFER, body))
        end = time.monotonic() + 30
        while any(found.raddr == name for found in ours.net_connections("tcp4") if found.status == "ESTABLISHED"):
            assert time.monotonic() < end
            time.sleep(0.05)
    assert talk(server.port, wire(INFER, infer_body(1.0), "connection: close"))[0].status == 200


# ---- headers ---------------------------------------------------------------------------------------------------------

TOO_LONG = {
    "a header": head("/health/live", "a: " + "x" * HEADER_BYTES_MAX),
    "many headers": head("/health/live", *(f"a{n}: {'x' * 90}" for n in range(HEADERS_MAX - 5))),
    "a path": head("/" + "x" * HEADER_BYTES_MAX),
    "a name": head("/health/live", "x" * HEADER_BYTES_MAX + ": a"),
    "a head without an end": head("/health/live", "a: " + "x" * 200_000)[:-4],
    "too many headers": head("/health/live", *("a: b" for _ in range(HEADERS_MAX))),
    "a trailer": head(INFER, "transfer-encoding: chunked") + b"1\r\n{\r\n0\r\na: " + b"x" * 3 * HEADER_BYTES_MAX,
    "a chunk's extension": head(INFER, "transfer-encoding: chunked") + b"1;a=" + b"x" * 3 * HEADER_BYTES_MAX,
}


@pytest.mark.parametrize("what", TOO_LONG)
def test_headers_above_their_limit_are_a_431_that_names_it(server: LiveServer, what: str):
    (answer,) = talk(server.port, TOO_LONG[what])
    assert (answer.status, answer.json["reason"]) == (431, "headers_too_large")
    assert str(HEADERS_MAX if what == "too many headers" else HEADER_BYTES_MAX) in answer.json["error"]
    assert answer.headers["connection"] == "close"


def test_headers_below_their_limit_are_read_however_they_come(server: LiveServer):
    message = head("/health/live", "a: " + "x" * (HEADER_BYTES_MAX - 200), "connection: close", method="GET")
    for size in (len(message), 4096, 1000):
        (answer,) = talk(server.port, *(message[place : place + size] for place in range(0, len(message), size)))
        assert answer.status == 200


def test_trailers_are_no_headers(server: LiveServer):
    body = chunks([infer_body(1.0)])[:-2] + b"x-request-id: from-the-trailer\r\ncontent-encoding: br\r\n\r\n"
    (answer,) = talk(server.port, head(INFER, "transfer-encoding: chunked", "connection: close") + body)
    assert answer.status == 200
    assert answer.headers["x-request-id"] != "from-the-trailer"


def test_a_wish_for_another_protocol_is_passed_over_and_the_body_is_not_lost(server: LiveServer):
    wish = ("connection: keep-alive, Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
    message = wire(INFER, infer_body(41.0), *wish) + wire(INFER, infer_body(1.0), "connection: close")
    for size in (len(message), 150, 7):
        answers = talk(server.port, *(message[place : place + size] for place in range(0, len(message), size)))
        assert [answer.json["outputs"][0]["data"] for answer in answers] == [[42.0], [2.0]]


NO_PATHS = {
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT to a path": b"CONNECT /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a host": b"GET http://x HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "both framings": head(INFER, "content-length: 3", "transfer-encoding: chunked"),
    "two lengths": head(INFER, "content-length: 3", "content-length: 4"),
    "a length below 0": head(INFER, "content-length: -1"),
    "a length beyond all bounds": head(INFER, "content-length: 99999999999999999999999"),
    "an unknown transfer encoding": head(INFER, "transfer-encoding: gzip"),
    "a chunk without a size": head(INFER, "transfer-encoding: chunked") + b"glass\r\n",
    "a chunk beyond all bounds": head(INFER, "transfer-encoding: chunked") + b"fffffffffffffffff\r\n",
    "a folded header": b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
    "a zero byte": b"GET / HTTP/1.1\r\na: \x00\r\n\r\n",
    "no HTTP behind a wish for HTTP/2": wire("/", b"", "connection: upgrade", "upgrade: h2c", method="GET") + b"GLASS",
    "a path that is no ASCII": b"GET /\xff HTTP/1.1\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(50),
}


@pytest.mark.parametrize("what", NO_PATHS)
def test_what_is_no_http_is_a_400_in_json_that_says_why(server: LiveServer, what: str):
    answer = talk(server.port, NO_PATHS[what])[-1]
    assert (answer.status, answer.json["reason"]) == (400, "malformed_http")
    assert answer.headers["connection"] == "close"
    assert "callback" not in answer.json["error"]


# ---- pipelines -------------------------------------------------------------------------------------------------------


def test_what_came_before_bytes_that_are_no_http_is_answered_first(server: LiveServer):
    good = [wire(INFER, infer_body(n)) for n in range(5)]
    for ending in (b"GLASS\r\n\r\n", head(INFER, "transfer-encoding: chunked") + b"glass\r\n"):
        answers = talk(server.port, b"".join(good) + ending)
        assert [answer.status for answer in answers] == [200] * 5 + [400]
        assert [answer.json["outputs"][0]["data"] for answer in answers[:-1]] == [[n + 1.0] for n in range(5)]


def test_a_pipeline_of_any_depth_is_answered_in_order_without_piling_up(server: LiveServer):
    def peak_kb() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    small = wire("/v2/models/adder/infer", b"{")
    count, before_kb = 8_000, peak_kb()
    with connect(server.port) as raw:
        sender = threading.Thread(target=raw.sendall, args=(small * (count - 1) + GOOD,))
        sender.start()
        answers = read_answers(raw, count)
        sender.join()
    assert [answer.status for answer in answers] == [400] * (count - 1) + [200]
    assert peak_kb() - before_kb < 10_000  # all of them at once would take 20,000


def test_a_large_body_in_a_pipeline_is_read_on(server: LiveServer):
    large = infer_body(1.0) + b" " * 200_000
    requests = [wire(INFER, infer_body(n)) + wire(INFER, large) for n in range(10)]
    with connect(server.port) as raw:
        sender = threading.Thread(target=raw.sendall, args=(b"".join(requests),))
        sender.start()
        answers = read_answers(raw, 20)
        sender.join()
    assert [answer.json["outputs"][0]["data"] for answer in answers[::2]] == [[n + 1.0] for n in range(10)]
    assert {answer.status for answer in answers} == {200}


# ---- bodies that nobody reads ----------------------------------------------------------------------------------------


def test_a_body_that_nobody_reads_is_let_go_and_the_connection_stays(server: LiveServer):
    with connect(server.port) as raw:
        for _ in range(3):
            raw.sendall(wire("/nowhere", b" " * 900_000) + GOOD)
            assert [answer.status for answer in read_answers(raw, 2)] == [404, 200]


def test_a_body_too_large_to_be_let_go_ends_the_connection_and_the_answer_is_read(server: LiveServer):
    """The caller sends all of it before it reads; a plain close would reset the connection under the answer."""
    (answer,) = talk(server.port, wire(INFER, b" " * (BODY_BYTES_MAX + 500_000)))
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_a_chunked_body_above_the_limit_is_a_413(server: LiveServer):
    pieces = [b" " * 100_000] * 20
    answers = talk(server.port, head(INFER, "transfer-encoding: chunked") + chunks(pieces) + GOOD)
    assert [answer.status for answer in answers][:1] == [413]


def test_a_chunked_body_without_an_end_is_not_listened_to_for_ever(server: LiveServer):
    answers = drip(
        server.port, head(INFER, "transfer-encoding: chunked"), lambda: b"186a0\r\n" + b" " * 100_000 + b"\r\n", 0.001
    )
    assert [answer.status for answer in answers] == [413]


# ---- how many --------------------------------------------------------------------------------------------------------


def test_connections_above_their_limit_are_told_so_and_the_others_served(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    with (
        LiveServer(tmp_path, ["--required", "adder"], {"GLASSAI_SERVER_CONNECTIONS_MAX": "4"}) as server,
        ExitStack() as stack,
    ):
        held = [stack.enter_context(connect(server.port)) for _ in range(4)]
        for raw in held:
            raw.sendall(GOOD)
            assert read_answers(raw, 1)[0].status == 200
        (refused,) = talk(server.port, GOOD)
        assert (refused.status, refused.json["reason"]) == (503, "too_many_connections")
        assert refused.headers["retry-after"] == "1"
        waiting = [stack.enter_context(connect(server.port)) for _ in range(LEAVING_MAX)]
        with suppress(ConnectionError):
            assert talk(server.port, GOOD) == [], "so many are told, the rest are not"
        for raw in waiting:
            raw.close()
        held[0].sendall(GOOD)
        assert read_answers(held[0], 1)[0].status == 200
        held.pop().close()
        end = time.monotonic() + 30
        while talk(server.port, wire(INFER, infer_body(1.0), "connection: close"))[0].status != 200:
            assert time.monotonic() < end


def test_refusals_of_connections_are_counted(server: LiveServer):
    talk(server.port, TOO_LONG["a header"])
    metrics = server.get("/metrics").body.decode()
    lines = [line for line in metrics.splitlines() if 'route="connection"' in line]
    assert any('reason="headers_too_large"' in line for line in lines)
    assert any(line.startswith("glassai_http_responses_total") and '"431"' in line for line in lines), lines


# ---- what is leaned on -----------------------------------------------------------------------------------------------


def test_what_is_used_of_uvicorn_and_httptools_is_there():
    """uvicorn is pinned to its minor version; whoever moves it reads here what has to be looked at."""
    assert importlib.metadata.version("uvicorn").startswith("0.54.")
    inherited = (
        *("connection_made", "connection_lost", "data_received", "shutdown", "handle_websocket_upgrade"),
        *("on_headers_complete", "on_message_complete", "on_response_complete", "_start_asgi_task", "_should_upgrade"),
    )
    for name in inherited:
        assert callable(getattr(HttpToolsProtocol, name))
    state = set(HttpToolsProtocol.__init__.__code__.co_names)
    assert {"parser", "cycle", "flow", "pipeline", "scope", "headers", "connections", "server_state"} <= state
    assert {"url", "scope"} <= set(HttpToolsProtocol.on_message_begin.__code__.co_names)
    cycle = set(RequestResponseCycle.__init__.__code__.co_names)
    assert {"scope", "transport", "body", "message_event", "disconnected", "response_complete", "keep_alive"} <= cycle
    for name in ("pause_reading", "resume_reading"):
        assert callable(getattr(FlowControl, name))
    assert {"read_paused", "write_paused"} <= set(FlowControl.__init__.__code__.co_names)
    for name in ("feed_data", "should_upgrade", "get_method", "get_http_version"):
        assert callable(getattr(httptools.HttpRequestParser, name))


def test_the_callback_that_failed_is_the_cause_that_the_parser_names():
    """What a callback raises comes back as the error's `__context__`, on which the refusals lean."""

    class Failing:
        def on_headers_complete(self) -> None:
            raise KeyError("mine")

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Failing()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(caught.value.__context__, KeyError)
