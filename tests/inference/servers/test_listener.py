"""The listening socket."""

from __future__ import annotations

import socket

import pytest

from inference.errors import AddressUnavailable
from inference.servers.listener import listen


def test_port_0_takes_a_free_port_that_can_be_reached():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), timeout=5) as caller:
        assert caller.getpeername() == listener.getsockname()


def test_a_taken_port_is_refused_with_what_to_do():
    with listen("127.0.0.1", 0) as taken, pytest.raises(AddressUnavailable, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(AddressUnavailable, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0)
