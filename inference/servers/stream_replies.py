"""The messages of one WebSocket that were begun, and their replies in the order of the messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from inference.errors import InferenceError
from inference.protocols.stream_messages import StreamQuery
from inference.request import Answer
from inference.servers.exchange import Exchange, Pending
from inference.servers.http import STREAM_PATH, App

DECODING_BYTES_MAX = 32 * 1024 * 1024  # of pictures that wait for a decoder; the last one may still come on top


class _Reply:
    """The place of one reply, and what it waits for until it has a body."""

    __slots__ = ("body", "decoding", "pending")

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.pending: Pending | None = None
        self.decoding: asyncio.Task[Pending] | None = None


class StreamReplies:
    """Begins messages and keeps their replies; `due` is called when the next reply in order may be there."""

    def __init__(self, app: App, exchange: Exchange, query: StreamQuery, due: Callable[[], None]) -> None:
        self._app = app
        self._exchange = exchange
        self._query = query
        self._due = due
        self._places: deque[_Reply] = deque()
        self._decoding_bytes = 0

    def __len__(self) -> int:
        """Messages that were begun and whose reply was not taken."""
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether no more may be begun."""
        return len(self._places) >= self._app.stream_rows.window or self._decoding_bytes >= DECODING_BYTES_MAX

    def begin(self, message: bytes, *, is_text: bool) -> None:
        """Give the message a place, and ask for its answer. A valid row is part of its line from here on."""
        reply = _Reply()
        self._places.append(reply)
        try:
            begun = self._app.stream_rows.begin(self._exchange, self._query, message, is_text=is_text)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            self._fill(reply, self._error(error))
            return
        if isinstance(begun, Pending):
            self._submit(reply, begun)
            return
        self._decoding_bytes += len(message)
        reply.decoding = asyncio.get_running_loop().create_task(_awaited(begun))
        reply.decoding.add_done_callback(partial(self._decoded, reply, len(message)))

    def take(self) -> bytes | None:
        """The next reply in order, once; None while it is not there."""
        if not self._places or self._places[0].body is None:
            return None
        return self._places.popleft().body

    def abandon(self) -> None:
        """Nobody waits any more: places are free at once, and what has not started never runs."""
        places, self._places = self._places, deque()
        for reply in places:
            if reply.body is not None:
                continue
            self._app.observe(STREAM_PATH, "WS", 499, "caller_gone")
            if reply.decoding is not None:
                reply.decoding.cancel()
            if reply.pending is not None:
                (reply.pending.answerer or self._app.engine).cancel(reply.pending.request)

    def _decoded(self, reply: _Reply, byte_count: int, task: asyncio.Task[Pending]) -> None:
        self._decoding_bytes -= byte_count
        reply.decoding = None
        if task.cancelled():
            return
        error = task.exception()
        if reply not in self._places:
            return
        if error is None:
            self._submit(reply, task.result())
        else:
            assert isinstance(error, Exception), "a task ends the loop with anything else"
            self._fill(reply, self._error(error))
        self._due()

    def _submit(self, reply: _Reply, pending: Pending) -> None:
        reply.pending = pending
        (pending.answerer or self._app.engine).submit(pending.request, partial(self._answered, reply, pending))

    def _answered(self, reply: _Reply, pending: Pending, answer: Answer) -> None:
        """An answer, once and in any order; never after a cancel."""
        if isinstance(answer, InferenceError):
            self._fill(reply, self._error(answer))
            return
        predictions = self._app.predictions
        if predictions.enabled and pending.answerer is None:
            predictions.write(self._exchange.request_id, answer, pending.request.inputs)
        try:
            response = pending.respond(answer)
        except Exception as error:  # noqa: BLE001 - see begin
            self._fill(reply, self._error(error))
        else:
            self._app.observe(STREAM_PATH, "WS", response.status, "")
            self._fill(reply, response.body)

    def _fill(self, reply: _Reply, body: bytes) -> None:
        reply.body = body
        reply.pending = None
        if self._places[0] is reply:
            self._due()

    def _error(self, error: Exception) -> bytes:
        return self._app.error_response(self._exchange, STREAM_PATH, error).body


async def _awaited(begun: Awaitable[Pending]) -> Pending:
    return await begun
