"""Replies in the order of messages: what is begun, what is due, what is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from inference.errors import InferenceError, QueueFull, RunFailed
from inference.protocols.call_limits import NO_LIMITS
from inference.protocols.stream_messages import StreamQuery
from inference.request import Answer, Prediction, Request, Timings
from inference.servers import stream_replies
from inference.servers.exchange import Exchange, Pending, Response
from inference.servers.http import App
from inference.servers.stream_replies import StreamReplies
from tests.inference.requests import KEY, request
from tests.inference.stream_transport import until

WINDOW = 3


@dataclass
class Engine:
    """Takes requests; the test answers them."""

    waiting: dict[str, tuple[Request, Callable[[Answer], None]]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def submit(self, asked: Request, done: Callable[[Answer], None]) -> None:
        if asked.id == "full":
            done(QueueFull("m", "rows", 1, 1, 1.0))
        else:
            self.waiting[asked.id] = asked, done

    def cancel(self, asked: Request) -> None:
        self.cancelled.append(asked.id)
        del self.waiting[asked.id]

    def answer(self, name: str, error: InferenceError | None = None) -> None:
        asked, done = self.waiting.pop(name)
        done(error or Prediction(asked.id, KEY, {}, Timings(0.0, 0.0, 1)))


@dataclass
class Bench:
    """StreamReplies over an engine and a route that are the test's own."""

    engine: Engine = field(default_factory=Engine)
    observed: list[tuple[int, str]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    due: int = 0
    decoded: dict[str, asyncio.Future[Pending]] = field(default_factory=dict)

    def replies(self) -> StreamReplies:
        predictions = SimpleNamespace(enabled=True, write=lambda id_, answer, inputs: self.logged.append(answer.id))
        app = SimpleNamespace(
            engine=self.engine,
            stream_rows=SimpleNamespace(window=WINDOW, begin=self._begin),
            predictions=predictions,
            observe=lambda route, method, status, reason: self.observed.append((status, reason)),
            error_response=lambda exchange, route, error: Response(500, f"error of {type(error).__name__}".encode()),
        )
        exchange = SimpleNamespace(request_id="req_1")
        query = StreamQuery("m", None, None, NO_LIMITS)
        return StreamReplies(cast("App", app), cast("Exchange", exchange), query, self._count_due)

    def _count_due(self) -> None:
        self.due += 1

    def _begin(self, exchange: Exchange, query: StreamQuery, message: bytes, *, is_text: bool) -> Any:
        name = message.decode()
        if name == "bad":
            raise ValueError(name)
        if not is_text:
            self.decoded[name] = asyncio.get_running_loop().create_future()
            return self.decoded[name]
        return self.pending(name)

    def pending(self, name: str, answerer: Any = None) -> Pending:
        def respond(prediction: Prediction) -> Response:
            if prediction.id == "nan":
                raise RunFailed("m", "NaN")
            return Response(200, b"answer of " + prediction.id.encode())

        return Pending(request(name), respond, answerer)


def taken(replies: StreamReplies) -> list[str]:
    """Every reply that is due."""
    found = []
    while (body := replies.take()) is not None:
        found.append(body.decode())
    return found


async def test_replies_come_in_the_order_of_messages_not_of_answers() -> None:
    bench = Bench()
    replies = bench.replies()
    for message in (b"1", b"bad", b"3"):
        replies.begin(message, is_text=True)
    assert replies.full
    assert taken(replies) == []
    bench.engine.answer("3")
    assert (taken(replies), bench.due) == ([], 0)
    bench.engine.answer("1")
    assert bench.due == 1
    assert taken(replies) == ["answer of 1", "error of ValueError", "answer of 3"]
    assert (len(replies), replies.full) == (0, False)
    assert bench.observed == [(200, ""), (200, "")]  # an error is counted where its response is made
    assert bench.logged == ["3", "1"]


async def test_every_way_to_fail_is_a_reply() -> None:
    bench = Bench()
    replies = bench.replies()
    replies.begin(b"full", is_text=True)
    replies.begin(b"nan", is_text=True)
    replies.begin(b"2", is_text=True)
    bench.engine.answer("nan")
    bench.engine.answer("2", RunFailed("m", "broken"))
    assert taken(replies) == ["error of QueueFull", "error of RunFailed", "error of RunFailed"]


async def test_a_picture_is_decoded_while_others_go_on_and_keeps_its_place() -> None:
    bench = Bench()
    replies = bench.replies()
    replies.begin(b"picture", is_text=False)
    replies.begin(b"2", is_text=True)
    await asyncio.sleep(0)
    bench.engine.answer("2")
    assert taken(replies) == []
    bench.decoded["picture"].set_result(bench.pending("picture"))
    await until(lambda: "picture" in bench.engine.waiting)
    bench.engine.answer("picture")
    assert taken(replies) == ["answer of picture", "answer of 2"]
    replies.begin(b"broken", is_text=False)
    await asyncio.sleep(0)
    bench.decoded["broken"].set_exception(ValueError("no picture"))
    await until(lambda: replies.take() == b"error of ValueError")


async def test_pictures_that_wait_for_a_decoder_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_replies, "DECODING_BYTES_MAX", 10)
    bench = Bench()
    replies = bench.replies()
    replies.begin(b"9 bytes..", is_text=False)
    assert not replies.full
    replies.begin(b"2", is_text=False)
    assert replies.full
    await asyncio.sleep(0)
    bench.decoded["2"].set_result(bench.pending("2"))
    await until(lambda: "2" in bench.engine.waiting)
    assert not replies.full
    replies.abandon()


async def test_who_leaves_gives_every_place_back() -> None:
    bench = Bench()
    replies = bench.replies()
    replies.begin(b"waiting", is_text=True)
    replies.begin(b"picture", is_text=False)
    replies.begin(b"answered", is_text=True)
    await asyncio.sleep(0)
    bench.engine.answer("answered")
    replies.abandon()
    assert (bench.engine.cancelled, bench.engine.waiting, len(replies)) == (["waiting"], {}, 0)
    assert bench.observed == [(200, ""), (499, "caller_gone"), (499, "caller_gone")]
    await until(bench.decoded["picture"].cancelled)
    replies.abandon()
    assert len(bench.observed) == 3


async def test_a_picture_that_is_done_after_its_caller_left_asks_nothing() -> None:
    bench = Bench()
    replies = bench.replies()
    replies.begin(b"picture", is_text=False)
    await asyncio.sleep(0)
    bench.decoded["picture"].set_result(bench.pending("picture"))
    replies.abandon()
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.engine.waiting == {}
    assert not replies.full


async def test_a_row_of_another_process_is_asked_and_cancelled_there() -> None:
    bench, neighbour = Bench(), Engine()
    replies = bench.replies()
    for name in ("1", "2"):
        replies.begin(name.encode(), is_text=False)
    await asyncio.sleep(0)
    for name in ("1", "2"):
        bench.decoded[name].set_result(bench.pending(name, neighbour))
    await until(lambda: len(neighbour.waiting) == 2)
    neighbour.answer("1")
    assert taken(replies) == ["answer of 1"]
    assert bench.logged == []  # the process that predicts writes it
    replies.abandon()
    assert neighbour.cancelled == ["2"]
    assert bench.engine.cancelled == []
