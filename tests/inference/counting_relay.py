"""A relay between a client and a server that counts connections."""

from __future__ import annotations

import contextlib
import socket
import threading


class CountingRelay:
    """Passes connections on to a port and counts them."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._ends: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is shut down at the end
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._ends.append(near)
                far = socket.create_connection(self._target)
                self._ends.append(far)
                for source, sink in ((near, far), (far, near)):
                    passing = threading.Thread(target=self._pass_on, args=(source, sink))
                    self._threads.append(passing)
                    passing.start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
        _shut_down(sink)

    def __enter__(self) -> CountingRelay:
        return self

    def __exit__(self, *error: object) -> None:
        # A thread that waits for a socket wakes up if it is shut down, but not if it is closed.
        _shut_down(self._listener)
        self._threads[0].join()
        for end in self._ends:
            _shut_down(end)
        for passing in self._threads[1:]:
            passing.join()
        for end in (self._listener, *self._ends):
            end.close()


def _shut_down(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may be gone already
        end.shutdown(socket.SHUT_RDWR)
