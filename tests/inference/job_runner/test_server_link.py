"""The host's end of the socket: answers find their questions, commands their handler, and an end everybody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from inference.decisions.background_band import REQUESTS_MAX
from inference.errors import QueueFull, Stopping
from inference.job_runner.server_link import Order, ServerLink
from inference.protocols.child_frames import FrameInvalid
from inference.protocols.job_frames import (
    Command,
    Event,
    FindModel,
    Frame,
    FrameReader,
    RanRows,
    Reply,
    Withdraw,
    encoded,
    refused,
    rows_that_ran,
)


class Server:
    """The other end, by hand."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(10)
        self.orders: list[Order] = []
        self.ordered = threading.Semaphore(0)
        self.link = ServerLink(theirs, self._note)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        self._reader = FrameReader()

    def _note(self, order: Order) -> None:
        self.orders.append(order)
        self.ordered.release()

    def _serve(self) -> None:
        try:
            self.link.serve()
        except FrameInvalid as error:
            self.failure = error

    def say(self, pieces: list[memoryview]) -> None:
        self.socket.sendall(b"".join(pieces))

    def hears(self) -> Frame:
        while True:
            count = self.socket.recv_into(self._reader.space)
            assert count, "the link was closed"
            whole = self._reader.filled(count)
            if whole is not None:
                return whole[0]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.socket.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def ask(server: Server, name: str):
    return server.link.ask(lambda number: encoded(FindModel(number, name)))


def test_answers_find_their_questions_in_any_order(server: Server) -> None:
    (one, first), (two, second), (three, third) = (ask(server, name) for name in "abc")
    assert [server.hears() for _ in range(3)] == [FindModel(one, "a"), FindModel(two, "b"), FindModel(three, "c")]
    server.say(rows_that_ran(two, {"y": np.arange(3)}))
    server.say(encoded(refused(one, QueueFull("m", "rows", 1, 1, 0.5))))
    server.say(rows_that_ran(three, {}))
    frame, tensors = second.result(10)
    assert isinstance(frame, RanRows)
    assert tensors["y"].tolist() == [0, 1, 2]
    with pytest.raises(QueueFull):
        first.result(10)
    assert third.result(10)[1] == {}


def test_commands_and_their_withdrawals_reach_the_host_and_its_answers_the_server(server: Server) -> None:
    server.say([*encoded(Command(1, "show", b"{}")), *encoded(Withdraw(1))])
    assert server.ordered.acquire(timeout=10)
    assert server.ordered.acquire(timeout=10)
    assert server.orders == [Command(1, "show", b"{}"), Withdraw(1)]
    server.link.send(encoded(Event(1, "status", b"{}")))
    server.link.send(encoded(Reply(1, bytes(200_000))))
    assert server.hears() == Event(1, "status", b"{}")
    assert server.hears() == Reply(1, bytes(200_000))


def test_what_is_withdrawn_is_told_once_and_its_late_answer_is_dropped(server: Server) -> None:
    number, future = ask(server, "a")
    server.hears()
    server.link.withdraw(number)
    server.link.withdraw(number)
    assert server.hears() == Withdraw(number)
    server.say(rows_that_ran(number, {}))
    after, second = ask(server, "b")
    assert server.hears() == FindModel(after, "b")
    server.say(rows_that_ran(after, {}))
    second.result(10)
    assert not future.done()


def test_when_the_server_goes_everybody_is_told(server: Server) -> None:
    _, waiting = ask(server, "a")
    server.socket.close()
    with pytest.raises(Stopping):
        waiting.result(10)
    server.thread.join(10)
    assert server.link.closed
    with pytest.raises(Stopping):
        ask(server, "b")[1].result(0)
    assert server.link.take_place(unless=lambda: False)  # nobody waits for a place at a server that is gone


def test_a_question_that_cannot_be_made_leaves_nothing_behind(server: Server) -> None:
    def broken(number: int) -> list[memoryview]:
        raise ValueError(f"question {number} has a tensor that no frame takes")

    with pytest.raises(ValueError, match="question 1"):
        server.link.ask(broken)
    assert server.link._open == {}


def test_what_is_no_frame_ends_the_link(server: Server) -> None:
    _, waiting = ask(server, "a")
    server.say([memoryview(b"\xff" * 64)])
    with pytest.raises(Stopping):
        waiting.result(10)
    server.thread.join(10)
    assert isinstance(server.failure, FrameInvalid)


def test_a_frame_that_only_a_host_sends_ends_the_link(server: Server) -> None:
    number, waiting = ask(server, "a")
    server.say(encoded(Reply(number, b"{}")))
    server.thread.join(10)
    assert isinstance(server.failure, FrameInvalid)
    assert not waiting.cancelled()


def test_places_are_as_many_as_the_server_takes_and_come_back(server: Server) -> None:
    link = server.link
    assert all(link.take_place(unless=lambda: False) for _ in range(REQUESTS_MAX))
    assert not link.take_place(unless=lambda: True)
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(link.take_place(unless=lambda: False)), daemon=True)
    waiter.start()
    link.give_place()
    waiter.join(10)
    assert got == [True]


def test_the_host_can_end_the_link_itself(server: Server) -> None:
    server.link.close()
    server.thread.join(10)
    assert server.socket.recv(1) == b""
