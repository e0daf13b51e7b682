"""Hands rows to the process that their line belongs to, over a Unix socket, when a server has several processes.

Each process listens on its own socket in a folder that only its user can open, and keeps one connection to each of the
others, opened by the first row and again after a loss. A row that cannot be handed over is refused and has entered no
line, so that the caller may send it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from inference.decisions.line_owner import owner_of
from inference.engine import Engine
from inference.errors import DeadlinePassed, InferenceError, LineUnavailable, QueueFull, Stopping
from inference.monitoring.logs import PredictionLog
from inference.pipeline.sample import Sample
from inference.protocols.call_limits import CallLimits
from inference.protocols.handover_frames import (
    Counters,
    CountersWanted,
    Frame,
    FrameError,
    FrameReader,
    HandedRow,
    RowAnswer,
    RowRefusal,
    Withdrawal,
    encoded,
)
from inference.request import Answer, Prediction, Request, Timings
from inference.served_model import ServedModel
from inference.servers.exchange import Pending, Response
from inference.servers.takeover import TakenOver, TakeOver

log = logging.getLogger(__name__)

ROWS_MAX = 4096  # under way to one process: as many as wait for a model by default
BYTES_MAX = 64 * 1024 * 1024  # of those rows
RETRY_AFTER_S = 1.0
SWEEP_S = 0.5  # between two looks for rows that a silent process owes
GRACE_S = 1.0  # past its deadline, in which the owner itself would have said so
NO_TIMINGS = Timings(0.0, 0.0, 0)  # those are counted where the row ran

Done = Callable[[Answer], None]


class HandedRequest(Request):
    """A request that another process answers: `frame` is the row that goes there."""

    frame: bytes = b""
    number: int = 0


class HandedBack(Prediction):
    """The answer of another process: the body that the caller reads."""

    body: bytes = b""


class Link(asyncio.Protocol):
    """The way to one other process. Answers requests as the engine does; belongs to one loop."""

    def __init__(self, owner: int, path: Path, clock: Callable[[], float]) -> None:
        self.owner = owner
        self.rows = 0  # handed over since the start
        self._path = path
        self._clock = clock
        self._numbers = 0
        self._waiting: dict[int, tuple[HandedRequest, Done]] = {}
        self._bytes = 0
        self._counts: dict[int, asyncio.Future[bytes]] = {}
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._stopping = False
        self._drained = asyncio.Event()

    # ---- as the engine does ------------------------------------------------------------------------------------------

    def begin(
        self, served: ServedModel, sample: Sample, arrived_s: float, limits: CallLimits, request_id: str
    ) -> Pending:
        """The request for a row of a line of that process."""
        self._numbers += 1
        data = msgspec.json.encode(sample.fields)
        key, stream_id = served.key, sample.stream_id or ""
        row = HandedRow(
            self._numbers,
            key.name,
            key.version,
            stream_id,
            data,
            request_id,
            arrived_s,
            limits.priority,
            limits.timeout_s,
        )
        priority, deadline_s = served.place(arrived_s, limits)
        frame = encoded(row)
        request = HandedRequest(
            request_id, key, {}, 1, len(frame), (), deadline_s, arrived_s, priority, frame=frame, number=row.number
        )
        return Pending(request, _respond, self)

    def submit(self, request: Request, done: Done) -> None:
        """Hand the row over, or refuse. `done` is called once, maybe before this returns, and never after `cancel`."""
        assert isinstance(request, HandedRequest)
        refused = self._refusal(request)
        if refused is not None:
            done(refused)
            return
        self._waiting[request.number] = (request, done)
        self._bytes += request.byte_count
        self.rows += 1
        self._send(request.frame)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look_for_late_ones)

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        """`submit`, with the answer as a future."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        self.submit(request, done)
        return future

    def cancel(self, request: Request) -> None:
        """The caller has left, and the owner is told. No-op once answered."""
        assert isinstance(request, HandedRequest)
        if self._taken(request.number) is not None:
            self._send(encoded(Withdrawal(request.number)))

    @property
    def waiting(self) -> int:
        """Rows without an answer."""
        return len(self._waiting)

    def counters(self) -> asyncio.Future[bytes]:
        """Everything that the process has counted. Fails with LineUnavailable."""
        self._numbers += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._counts[self._numbers] = future
        self._send(encoded(CountersWanted(self._numbers)))
        return future

    async def drain(self, limit_s: float) -> bool:
        """Refuse new rows and wait for those under way, at most `limit_s`. False if some are left."""
        self._stopping = True
        if self._waiting:
            try:
                await asyncio.wait_for(self._drained.wait(), limit_s)
            except asyncio.TimeoutError:
                return False
        return True

    def close(self) -> None:
        """End the connection; whoever still waits is told."""
        self._stopping = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._transport is not None:
            self._transport.close()
        self._give_up(Stopping())

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:  # uvloop's is none of asyncio's classes
        """What came while the connection was made goes first."""
        self._transport = transport
        self._reader = FrameReader()
        transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Answer every caller whose frame is whole."""
        try:
            for frame in self._reader.feed(data):
                self._answered(frame)
        except FrameError as error:
            log.error("the connection to process %d is closed: %s", self.owner, error)  # noqa: TRY400 - see above
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The owner is gone, and its lines with it: nothing of what was under way is in any line."""
        self._transport = None
        self._give_up(LineUnavailable(self.owner, RETRY_AFTER_S))

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, str(self._path))
            self._connecting = None
        except OSError:
            self._connecting = None  # first, since who is told may hand the next row over
            self._unsent.clear()
            self._give_up(LineUnavailable(self.owner, RETRY_AFTER_S))

    def _send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)
            return
        self._unsent.append(frame)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _refusal(self, request: HandedRequest) -> InferenceError | None:
        if self._stopping:
            return Stopping()
        if len(self._waiting) >= ROWS_MAX:
            return QueueFull(str(request.model), "rows for one process", len(self._waiting), ROWS_MAX, RETRY_AFTER_S)
        if self._bytes + request.byte_count > BYTES_MAX:
            return QueueFull(str(request.model), "bytes for one process", self._bytes, BYTES_MAX, RETRY_AFTER_S)
        return None

    def _answered(self, frame: Frame) -> None:
        if isinstance(frame, Counters):
            future = self._counts.pop(frame.number, None)
            if future is not None and not future.done():
                future.set_result(frame.families)
        elif isinstance(frame, RowAnswer | RowRefusal) and (held := self._taken(frame.number)) is not None:
            request, done = held
            if isinstance(frame, RowAnswer):
                done(HandedBack(request.id, request.model, {}, NO_TIMINGS, body=frame.body))
            else:
                done(frame.error)

    def _taken(self, number: int) -> tuple[HandedRequest, Done] | None:
        held = self._waiting.pop(number, None)
        if held is not None:
            self._bytes -= held[0].byte_count
            if self._stopping and not self._waiting:
                self._drained.set()
        return held

    def _give_up(self, error: InferenceError) -> None:
        for number in list(self._waiting):
            held = self._taken(number)
            if held is not None:
                held[1](error)
        for future in self._counts.values():
            if not future.done():
                future.set_exception(error)
        self._counts.clear()

    def _look_for_late_ones(self) -> None:
        """The owner answers or refuses in time; one that does neither must not hold anybody for ever."""
        self._sweep = None
        now = self._clock()
        late = [number for number, (request, _) in self._waiting.items() if now > request.deadline_s + GRACE_S]
        for number in late:
            held = self._taken(number)
            if held is not None:
                request, done = held
                done(DeadlinePassed(str(request.model), now - request.arrived_s))
        if self._waiting:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look_for_late_ones)


class Neighbours:
    """All processes of the server, seen from process `own` of `processes`; their sockets are in `folder`."""

    def __init__(self, own: int, processes: int, folder: Path, engine: Engine, predictions: PredictionLog) -> None:
        self.own = own
        self.processes = processes
        self.folder = folder
        self._engine = engine
        self._predictions = predictions
        self._server: asyncio.Server | None = None
        self._taken_over: set[TakenOver] = set()
        self.links = {n: Link(n, self._path(n), engine.clock) for n in range(processes) if n != own}

    def _path(self, process: int) -> Path:
        return self.folder / f"{process}.sock"

    async def start(self, take_over: TakeOver, count: Callable[[], bytes]) -> None:
        """Answer the others: `take_over` reads a row of a line of ours, `count` gives our counters (in a thread)."""
        path = self._path(self.own)
        path.unlink(missing_ok=True)  # left by a process that was killed

        def taken_over() -> TakenOver:
            return TakenOver(self._engine, take_over, count, self._predictions, self._taken_over)

        self._server = await asyncio.get_running_loop().create_unix_server(taken_over, str(path))

    def begin(
        self, served: ServedModel, sample: Sample, arrived_s: float, limits: CallLimits, request_id: str
    ) -> Pending | None:
        """The request for a row of another process's line; None for a line of ours."""
        owner = owner_of(served.key.name, sample.stream_id or "", self.processes)
        if owner == self.own:
            return None
        return self.links[owner].begin(served, sample, arrived_s, limits, request_id)

    async def drain(self, limit_s: float) -> bool:
        """Hand nothing over any more and wait for what is under way, at most `limit_s`. False if something is left."""
        return all(await asyncio.gather(*(link.drain(limit_s) for link in self.links.values())))

    def stop(self) -> None:
        """Close every connection, and give the socket back."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._taken_over):
            connection.close()
        for link in self.links.values():
            link.close()
        self._path(self.own).unlink(missing_ok=True)


def _respond(prediction: Prediction) -> Response:
    assert isinstance(prediction, HandedBack)
    return Response(200, prediction.body)
