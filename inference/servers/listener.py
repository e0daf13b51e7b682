"""The listening socket. Apart from the server, so that a taken port shows before anything is loaded."""

from __future__ import annotations

import socket

from inference.errors import AddressUnavailable

BACKLOG = 2048  # connections that the system holds for us while the loop is busy


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises AddressUnavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressUnavailable(host, port, error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener
