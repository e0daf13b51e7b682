"""Which heads are plain, and that a head that is known means what it meant to the parser."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference.servers.http import STREAM_PATH, PredictRoute
from inference.servers.plain_head import (
    HEAD_BYTES_MAX,
    HEADS_KEPT,
    PLAIN_BODY_BYTES_MAX,
    KnownHeads,
    PlainHead,
    plain_head,
)
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.raw_http import INFER, infer_body, read_answers, wire

Headers = list[tuple[bytes, bytes]]


def head_of(url: bytes, headers: Headers, body_bytes_max: int = 1 << 30) -> PlainHead | None:
    nobody: Any = None
    route = PredictRoute(STREAM_PATH, nobody, nobody)
    app: Any = SimpleNamespace(
        predict_route=lambda path: (route, {}) if path == STREAM_PATH else None, body_bytes_max=body_bytes_max
    )
    return plain_head(app, url, headers, keep_alive=True)


LENGTH = (b"content-length", b"7")


def test_a_plain_head_has_what_handlers_read() -> None:
    head = head_of(b"/api/inference/stream?a=1", [(b"host", b"x"), LENGTH])
    assert head is not None
    assert head.scope == {"type": "http", "method": "POST", "path": STREAM_PATH, "query_string": b"a=1"}
    assert (head.headers, head.body_bytes) == ({b"host": b"x", b"content-length": b"7"}, 7)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (b"/metrics", [LENGTH]),
        (b"/api/inference/stre%61m", [LENGTH]),
        (b"/api/inference/stream#part", [LENGTH]),
        (b"http://host/api/inference/stream", [LENGTH]),
        (b"/api/inference/stream", []),
        (b"/api/inference/stream", [(b"content-length", b"%d" % (PLAIN_BODY_BYTES_MAX + 1))]),
        (b"/api/inference/stream", [(b"content-length", b"100000")]),
        (b"/api/inference/stream", [LENGTH, (b"content-encoding", b"gzip")]),
        (b"/api/inference/stream", [LENGTH, (b"expect", b"100-continue")]),
        (b"/api/inference/stream", [LENGTH, (b"transfer-encoding", b"chunked")]),
    ],
)
def test_whatever_takes_more_is_not_plain(url: bytes, headers: Headers) -> None:
    assert head_of(url, headers) is None


def test_a_body_above_the_servers_own_limit_is_not_plain() -> None:
    assert head_of(b"/api/inference/stream", [LENGTH], body_bytes_max=7) is not None
    assert head_of(b"/api/inference/stream", [LENGTH], body_bytes_max=6) is None


def known(received: bytes, head: PlainHead | None) -> KnownHeads:
    heads = KnownHeads()
    assert head is not None
    heads.learn(received, received.find(b"\r\n\r\n") + 4, head)
    return heads


def test_a_head_is_known_again_if_just_its_body_follows() -> None:
    top = b"POST /api/inference/stream HTTP/1.1\r\ncontent-length: 7\r\n\r\n"
    head = head_of(b"/api/inference/stream", [LENGTH])
    heads = known(top + b"1234567", head)
    assert heads.find(top + b"7654321") == (head, len(top))
    for other in (top, top + b"123456", top + b"12345678", top[1:] + b"1234567", b"1234567", b""):
        assert heads.find(other)[0] is None
    heads.forget(top + b"1234567", len(top))
    assert heads.find(top + b"7654321")[0] is None


def test_nothing_is_learned_from_what_was_not_one_whole_request() -> None:
    top = b"POST /api/inference/stream HTTP/1.1\r\ncontent-length: 7\r\n\r\n"
    head = head_of(b"/api/inference/stream", [LENGTH])
    for received in (top + b"123456", top + b"12345678", top + b"1\r\n\r\n34"):
        assert known(received, head).find(received)[0] is (head if received == top + b"1\r\n\r\n34" else None)


def test_the_table_is_bounded_in_heads_and_in_their_bytes() -> None:
    head = head_of(b"/api/inference/stream", [LENGTH])
    heads, body = KnownHeads(), b"1234567"
    assert head is not None
    for number in range(3 * HEADS_KEPT):
        top = b"POST / HTTP/1.1\r\nx: %d\r\n\r\n" % number
        heads.learn(top + body, len(top), head)
        assert len(heads._heads) <= HEADS_KEPT
    long = b"POST / HTTP/1.1\r\nx: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n"
    heads.learn(long + body, len(long), head)
    assert heads.find(long + body)[0] is None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    with LiveServer(models, ["--required", "adder"]) as running:
        yield running


def test_the_same_head_again_and_again_among_others_is_answered_right(server: LiveServer) -> None:
    """One by one on one connection: the known head, the same cut in two, a malformed body, another head, and gzip."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        for number in range(1, 40):
            body = infer_body(float(number))
            message = wire(INFER, body)
            raw.sendall(message)
            (answer,) = read_answers(raw, 1)
            assert (answer.status, json.loads(answer.body)["outputs"][0]["data"]) == (200, [number + 1.0])
            raw.sendall(message[:-3])
            raw.sendall(message[-3:])
            (answer,) = read_answers(raw, 1)
            assert json.loads(answer.body)["outputs"][0]["data"] == [number + 1.0]
            raw.sendall(wire(INFER, b"{" * len(body)))
            assert read_answers(raw, 1)[0].status == 400
            raw.sendall(wire(INFER, body, "accept-encoding: gzip"))
            assert read_answers(raw, 1)[0].status == 200
            raw.sendall(message + wire("/health/live", b"", method="GET") + message)
            assert [one.status for one in read_answers(raw, 3)] == [200] * 3


def test_a_head_that_ends_a_connection_is_not_known_again(server: LiveServer) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(wire(INFER, infer_body(1.0), "connection: close"))
            answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
