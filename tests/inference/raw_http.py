"""HTTP as bytes on a socket: for what no client library would send, and to see exactly what comes back."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import BinaryIO

from tests.inference.live_server import Reply

INFER = "/v2/models/adder/infer"
STREAM = "/api/inference/stream"
ANSWER_LIMIT_S = 30.0


def infer_body(*numbers: float) -> bytes:
    """A request of the Open Inference Protocol for a model that adds 1 to each row of one number."""
    tensor = {"name": "x", "shape": [len(numbers), 1], "datatype": "FP32", "data": list(numbers)}
    return json.dumps({"inputs": [tensor]}).encode()


def wire(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """A whole request."""
    return head(path, f"content-length: {len(body)}", *headers, method=method) + body


def head(path: str, *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request up to its body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "host: x", *headers, "", ""]).encode()


def chunks(parts: Iterable[bytes]) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def connect(port: int, limit_s: float = ANSWER_LIMIT_S) -> socket.socket:
    """A connection on which no read takes longer than `limit_s`."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=limit_s)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def read_answer(reader: BinaryIO, *, bodiless: bool = False) -> Reply | None:
    """The next answer, None at the end of the connection; `bodiless` is that to HEAD."""
    line = reader.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (field := reader.readline()) != b"\r\n":
        assert field, f"the connection ended within the headers of {line!r}"
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    status = int(line.split()[1])
    if status == 100:
        return read_answer(reader, bodiless=bodiless)
    length = 0 if bodiless else int(headers["content-length"])
    body = reader.read(length)
    assert len(body) == length, f"the connection ended within the body of {line!r}"
    return Reply(status, headers, body)


def read_answers(raw: socket.socket, count: int) -> list[Reply]:
    """So many answers."""
    answers: list[Reply] = []
    with raw.makefile("rb") as reader:
        for _ in range(count):
            answer = read_answer(reader)
            assert answer is not None, f"{len(answers)} of {count} answers came"
            answers.append(answer)
    return answers


def talk(port: int, *parts: bytes) -> list[Reply]:
    """What is answered until the server closes; what it does not want to hear any more is not an error."""
    with connect(port) as raw:
        with suppress(ConnectionError):
            for part in parts:
                raw.sendall(part)
        with raw.makefile("rb") as reader:
            return list(iter(lambda: read_answer(reader), None))


def drip(port: int, start: bytes, parts: Callable[[], bytes], interval_s: float) -> list[Reply]:
    """What is answered to a caller who sends `start`, and a part whenever `interval_s` passes without an answer."""
    with connect(port, interval_s) as raw:
        raw.sendall(start)
        came = b""
        while True:
            try:
                piece = raw.recv(65536)
            except TimeoutError:
                with suppress(ConnectionError):
                    raw.sendall(parts())
                continue
            except ConnectionError:
                break
            if not piece:
                break
            came += piece
    reader = io.BytesIO(came)
    return list(iter(lambda: read_answer(reader), None))
