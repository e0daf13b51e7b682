"""The rows that other processes of this server hand over: asked of the engine as if they had come here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from inference.engine import Engine
from inference.errors import InferenceError
from inference.monitoring.logs import PredictionLog
from inference.protocols.handover_frames import (
    Counters,
    CountersWanted,
    Frame,
    FrameError,
    FrameReader,
    HandedRow,
    Reply,
    RowAnswer,
    Withdrawal,
    encoded,
    refusal,
)
from inference.request import Answer, Request
from inference.servers.exchange import InternalError, Pending

log = logging.getLogger(__name__)

TakeOver = Callable[[HandedRow], Pending]
"""Reads a row into its line and gives the request for it. Raises InferenceError."""


class TakenOver(asyncio.Protocol):
    """One other process's connection, `among` those that are open. Rows enter their lines in the order of its bytes."""

    def __init__(
        self,
        engine: Engine,
        take_over: TakeOver,
        count: Callable[[], bytes],
        predictions: PredictionLog,
        among: set[TakenOver],
    ) -> None:
        self._engine = engine
        self._take_over = take_over
        self._count = count
        self._predictions = predictions
        self._among = among
        self._reader = FrameReader()
        self._live: dict[int, Request] = {}
        self._counting: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is none of asyncio's classes
        """A neighbour begins."""
        self._transport = transport
        self._among.add(self)

    def data_received(self, data: bytes) -> None:
        """Obey every frame that is whole."""
        try:
            for frame in self._reader.feed(data):
                self._obey(frame)
        except FrameError as error:
            log.error("a neighbour's connection is closed: %s", error)  # noqa: TRY400 - its sentence says it all
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The neighbour is gone, and its callers with it: their places are free."""
        self._transport = None
        self._among.discard(self)
        for request in self._live.values():
            self._engine.cancel(request)
        self._live.clear()

    def close(self) -> None:
        """Say what is still to be said, and end the connection."""
        if self._transport is not None:
            self._transport.close()

    def _obey(self, frame: Frame) -> None:
        if isinstance(frame, HandedRow):
            self._begin(frame)
        elif isinstance(frame, Withdrawal):
            request = self._live.pop(frame.number, None)
            if request is not None:
                self._engine.cancel(request)
        elif isinstance(frame, CountersWanted):
            task = asyncio.get_running_loop().create_task(self._send_counters(frame.number))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

    def _begin(self, row: HandedRow) -> None:
        try:
            pending = self._take_over(row)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            self._refuse(row, error)
            return
        self._live[row.number] = pending.request
        self._engine.submit(pending.request, partial(self._answered, row, pending))

    def _answered(self, row: HandedRow, pending: Pending, answer: Answer) -> None:
        self._live.pop(row.number, None)
        if isinstance(answer, InferenceError):
            self._refuse(row, answer)
            return
        if self._predictions.enabled:
            self._predictions.write(row.request_id, answer, pending.request.inputs)
        try:
            response = pending.respond(answer)
        except Exception as error:  # noqa: BLE001 - see _begin
            self._refuse(row, error)
        else:
            self._send(RowAnswer(row.number, response.body))

    def _refuse(self, row: HandedRow, error: Exception) -> None:
        if not isinstance(error, InferenceError):
            log.error("request failed", exc_info=error, extra={"request_id": row.request_id})
            error = InternalError(row.request_id)
        self._send(refusal(row.number, error))

    async def _send_counters(self, number: int) -> None:
        self._send(Counters(number, await asyncio.to_thread(self._count)))

    def _send(self, reply: Reply) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encoded(reply))
