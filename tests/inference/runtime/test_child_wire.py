"""Frames through a real socket, in pieces of any size."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from inference.protocols.child_frames import FrameInvalid, Ran, Run, RunRaised, tensor_heads
from inference.runtime.child_wire import Wire, WireClosed

Pair = tuple[Wire, Wire]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def wires(ends: tuple[socket.socket, socket.socket]) -> Pair:
    return Wire(ends[0]), Wire(ends[1])


@pytest.mark.parametrize("rows", [0, 1, 1000, 20_000, 400_000])
def test_tensors_of_any_size_go_through(wires: Pair, rows: int) -> None:
    one, other = wires
    tensors = {"a": np.arange(rows, dtype=np.float32), "name": np.array(["ü"], object), "b": np.ones(3, np.int8)}
    heads, pieces = tensor_heads(tensors)
    sender = threading.Thread(target=one.send, args=(Run(heads), pieces))
    sender.start()
    message, got = other.receive()
    sender.join()
    assert message == Run(heads)
    assert {name: array.tolist() for name, array in got.items()} == {name: a.tolist() for name, a in tensors.items()}
    got["a"][:] = 0  # a caller's own, not shared with the next message
    other.send(RunRaised("no"))
    assert one.receive() == (RunRaised("no"), {})


def test_a_frame_that_comes_byte_by_byte_is_put_together(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    tensors = {"a": np.arange(3, dtype=np.float64)}
    heads, pieces = tensor_heads(tensors)
    wire = Wire(other)
    recorded, far = socket.socketpair()
    Wire(recorded).send(Ran(heads), pieces)
    content = far.recv(10_000)
    recorded.close()
    far.close()

    def trickle() -> None:
        for index in range(len(content)):
            one.sendall(content[index : index + 1])

    sender = threading.Thread(target=trickle)
    sender.start()
    _, got = wire.receive()
    sender.join()
    assert got["a"].tolist() == [0, 1, 2]


def test_the_end_of_the_other_side_is_told_in_both_directions(wires: Pair) -> None:
    one, other = wires
    other.close()
    with pytest.raises(WireClosed):
        one.receive()
    with pytest.raises(WireClosed):
        one.send(RunRaised("x"))


def test_an_end_in_the_middle_of_a_frame_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.sendall(b"\x10\x00\x00\x00" + bytes(8) + b"half")
    one.close()
    with pytest.raises(WireClosed, match="the other side has closed"):
        Wire(other).receive()


def test_what_is_no_frame_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.sendall(b"\xff" * 12)
    with pytest.raises(FrameInvalid, match="are announced"):
        Wire(other).receive()
