"""A WebSocket caller that does what no library would: half frames, wrong frames, no reading, no farewell."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def frame(payload: bytes | str, opcode: int = TEXT, *, fin: bool = True, masked: bool = True) -> bytes:
    """One frame as a caller sends it; the mask is zero, so the payload is itself."""
    raw = payload.encode() if isinstance(payload, str) else payload
    head, mask = (0x80 if fin else 0) | opcode, 0x80 if masked else 0
    if len(raw) < 126:
        length = struct.pack("!BB", head, mask | len(raw))
    elif len(raw) < 65536:
        length = struct.pack("!BBH", head, mask | 126, len(raw))
    else:
        length = struct.pack("!BBQ", head, mask | 127, len(raw))
    return length + (bytes(4) if masked else b"") + raw


def handshake(target: str, *headers: str) -> bytes:
    """The request that asks for a WebSocket; `headers` replace the usual ones."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: here", *(headers or HANDSHAKE), "", ""]).encode()


@dataclass
class RawStream:
    """`with RawStream(port, "model_name=adder") as stream: stream.send(frame("{}")); stream.read()`."""

    port: int
    query: str
    receive_bytes: int = 0  # of the kernel's buffer; 0 leaves it alone

    def __enter__(self) -> RawStream:
        self.socket = socket.socket()
        if self.receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", self.port))
        self.socket.sendall(handshake(f"/api/inference/stream?{self.query}"))
        self.reader = self.socket.makefile("rb")
        assert self.reader.readline().split()[1] == b"101"
        while self.reader.readline() != b"\r\n":
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.close()
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def read(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        head = self.reader.read(2)
        assert len(head) == 2, "the connection has ended"
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.reader.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.reader.read(8))
        return head[0] & 0x0F, self.reader.read(length)

    def reply(self) -> Any:
        """The next reply, as JSON."""
        opcode, payload = self.read()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    def close_code(self) -> int:
        """The code of the close frame that comes next, and is answered; nothing may come after it."""
        opcode, payload = self.read()
        assert opcode == CLOSE, (opcode, payload)
        with contextlib.suppress(OSError):  # the other side may have closed already
            self.send(frame(payload[:2], CLOSE))
        assert self.reader.read() == b""
        return int(struct.unpack("!H", payload[:2])[0])
