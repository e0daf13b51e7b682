"""The listening socket."""

from __future__ import annotations

import socket

import pytest

from inference.servers import listener
from inference.servers.listener import DESCRIPTORS_KEPT, descriptors_for, listen, reserve
from inference.start_errors import AddressUnavailable


def test_port_0_takes_a_free_port_that_can_be_reached():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), timeout=5) as caller:
        assert caller.getpeername() == listener.getsockname()


def test_a_taken_port_is_refused_with_what_to_do():
    with listen("127.0.0.1", 0) as taken, pytest.raises(AddressUnavailable, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(AddressUnavailable, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_a_shared_port_has_a_listener_for_each_process_and_one_socket_that_holds_it():
    with reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        with listen("127.0.0.1", port, shared=True) as first, listen("127.0.0.1", port, shared=True) as second:
            callers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(40)]
            taken = [accepted(listener) for listener in (first, second)]
            for caller in callers:
                caller.close()
    assert sum(taken) == 40
    assert min(taken) >= 5  # 40 fair coins do worse once in 100,000 times


def accepted(listener: socket.socket) -> int:
    """How many connections the kernel has given to this listener."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_is_not_shared_with_another_server(*, shared: bool):
    with listen("127.0.0.1", 0, shared=shared) as taken, pytest.raises(AddressUnavailable, match="--port"):
        reserve("127.0.0.1", taken.getsockname()[1])


def test_a_port_on_which_a_process_listens_is_given_to_nobody_else():
    with reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with listen("127.0.0.1", port, shared=True), pytest.raises(AddressUnavailable):
            listen("127.0.0.1", port)


class Limits:
    """The system's limit of open files, and what was asked of it."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.soft, self.hard

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        self.soft, self.hard = limits


@pytest.mark.parametrize(
    ("soft", "hard", "held", "raised"),
    [
        (100_000, 100_000, 4096, 100_000),
        (1024, 100_000, 4096, 4096 + DESCRIPTORS_KEPT),
        (1024, -1, 4096, 4096 + DESCRIPTORS_KEPT),
        (-1, -1, 4096, -1),
        (1024, 2048, 2048 - DESCRIPTORS_KEPT, 2048),
        (100, 100, 1, 100),
    ],
)
def test_connections_are_as_many_as_the_process_may_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, soft: int, hard: int, held: int, raised: int
):
    limits = Limits(soft, hard)
    monkeypatch.setattr(listener, "resource", limits)
    assert descriptors_for(4096) == held
    assert (limits.soft, limits.hard) == (raised, hard)
    assert ("ulimit -n" in caplog.text) is (held < 4096)
