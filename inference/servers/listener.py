"""The listening socket. Apart from the server, so that a taken port shows before anything is loaded."""

from __future__ import annotations

import logging
import resource
import socket

from inference.start_errors import AddressUnavailable

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that the system holds for us while the loop is busy
DESCRIPTORS_KEPT = 512  # for models, logs, the server's own sockets, and callers who are told that there are too many


def descriptors_for(connections: int) -> int:
    """How many of so many connections this process may hold; raises its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    held = max(1, soft - DESCRIPTORS_KEPT)
    log.warning("at most %d connections, since this process may open %d files (ulimit -n)", held, soft)
    return held


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 takes a free one. `shared`: other processes listen on it too. AddressUnavailable."""
    listener = _bound(host, port, shared=shared, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds the port for `shared` listeners, and takes no connection itself. Raises AddressUnavailable.

    The port is taken alone first: a second server would otherwise share it, and nobody would notice.
    """
    if port:
        _bound(host, port, shared=False, backlog=1).close()
    return _bound(host, port, shared=True, backlog=None)


def _bound(host: str, port: int, *, shared: bool, backlog: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
        if backlog is not None:
            bound.listen(backlog)
    except OSError as error:
        bound.close()
        raise AddressUnavailable(host, port, error.strerror or str(error)) from error
    return bound
