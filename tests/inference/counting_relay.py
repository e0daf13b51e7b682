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
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(self._target)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while part := source.recv(65536):
                sink.sendall(part)

    def __enter__(self) -> CountingRelay:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
