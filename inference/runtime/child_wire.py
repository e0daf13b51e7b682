"""Sends and receives frames on the socket between a server and the child process that holds a model; both ends use it.

Plain copies through the kernel: a round trip of 4 KiB takes 16 us and of 1 MiB both ways 0.26 ms on the development
machine, a small part of what a model takes that is fed so much. Shared memory would add names to clean up after.
"""

from __future__ import annotations

import socket

import numpy as np

from inference.protocols.child_frames import PREFIX, Message, Ran, Run, frame, read_header, read_prefix, read_tensors
from inference.tensor import Tensors

SOCKET_BYTES = 1024 * 1024  # of the kernel's buffer; less makes large tensors go in many small steps
JOINED_BYTES_MAX = 64 * 1024  # smaller frames are joined, for one call of the kernel


class WireClosed(Exception):
    """The other side is gone."""


class Wire:
    """One end of the socket. One thread at a time, one message each way in turn."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._prefix = bytearray(PREFIX.size)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)

    def fileno(self) -> int:
        """The descriptor, to wait for its end."""
        return self._socket.fileno()

    def send(self, message: Message, body: list[memoryview] | None = None) -> None:
        """Send a message. Raises WireClosed."""
        pieces = frame(message, body)
        try:
            if len(pieces) == 1:
                self._socket.sendall(pieces[0])
            elif sum(piece.nbytes for piece in pieces) <= JOINED_BYTES_MAX:
                self._socket.sendall(b"".join(pieces))
            else:
                for piece in pieces:
                    self._socket.sendall(piece)
        except OSError as error:
            raise WireClosed(str(error)) from error

    def receive(self) -> tuple[Message, Tensors]:
        """Wait for a message and its tensors. Raises WireClosed, FrameInvalid."""
        self._fill(memoryview(self._prefix))
        header_bytes, body_bytes = read_prefix(self._prefix)
        header = bytearray(header_bytes)
        self._fill(memoryview(header))
        message = read_header(header)
        body = np.empty(body_bytes, np.uint8)
        self._fill(body.data)
        heads = message.tensors if isinstance(message, (Run, Ran)) else ()
        return message, read_tensors(heads, body)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _fill(self, buffer: memoryview) -> None:
        filled = 0
        try:
            while filled < buffer.nbytes:
                received = self._socket.recv_into(buffer[filled:])
                if not received:
                    raise WireClosed("the other side has closed")
                filled += received
        except OSError as error:
            raise WireClosed(str(error)) from error
