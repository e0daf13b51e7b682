"""An open loop of callers over HTTP/1.1: requests built beforehand go out at times computed beforehand.

One raw protocol, many connections, at most one request in flight on each. A request that is due while the loop is busy
or every connection is taken goes out late, and its latency counts from when it was due (Tene, 2013, "coordinated
omission"). Needs a core of its own: it looks at the clock without sleeping when the next request is near.
"""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections import deque
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Any

import httptools

from inference.cli.load_figures import LOST, LoadRun
from inference.start_errors import StartError

SPIN_S = 0.002  # the loop's timers have milliseconds; nearer than this the clock is watched
SENDS_A_TURN = 64  # then answers are read, so that catching up does not hide them
ANSWER_LIMIT_S = 10.0  # after the last request was due
OPENINGS_AT_ONCE = 64
START_AFTER_S = 0.01


class ServerGone(StartError):
    """Nobody listens at the address, or not any more."""

    reason = "server_gone"

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"No server answers at http://{host}:{port} ({cause}). "
            "Start one with `glassai serve`, or name it with --url."
        )


def run_load(
    host: str,
    port: int,
    requests: Sequence[bytes],
    due_s: array[float],
    connections: int,
    choice: Sequence[int] | None = None,
) -> LoadRun:
    """Send request `requests[choice[i]]` at `due_s[i]` (the first one if there is no choice), and wait for the answers.

    `requests` are whole HTTP/1.1 requests. Raises ServerGone.
    """
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_Load(host, port, requests, due_s, choice).run(connections))


class _Caller(asyncio.Protocol):
    """One connection; `request` is the index of what is in flight on it, or -1."""

    transport: Any = None

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self.request = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._load.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """The parser's: an answer is whole."""
        keep = self._parser.should_keep_alive()
        self._load.answered(self, self._parser.get_status_code(), keep=keep)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, exc)


class _Load:
    """One run: the schedule, the callers without a request, and the requests without a caller."""

    def __init__(
        self, host: str, port: int, requests: Sequence[bytes], due_s: array[float], choice: Sequence[int] | None
    ) -> None:
        count = len(due_s)
        self._host, self._port = host, port
        self._requests, self._choice, self._due_s = requests, choice, due_s
        self._seen_s, self._sent_s, self._done_s = (array("d", [inf]) * count for _ in range(3))
        self._status = array("h", [LOST]) * count
        self._free: list[_Caller] = []  # the last one used is the first one taken: few sockets stay warm
        self._waiting: deque[int] = deque()
        self._next, self._left = 0, count
        self._callers: set[_Caller] = set()
        self._empty = asyncio.Event()
        self._openings: set[asyncio.Task[None]] = set()
        self._start_s = inf

    async def run(self, connections: int) -> LoadRun:
        """Open the connections, keep the schedule, and wait for the answers."""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        try:
            for first in range(0, connections, OPENINGS_AT_ONCE):
                together = min(OPENINGS_AT_ONCE, connections - first)
                await asyncio.gather(*(self._connect() for _ in range(together)))
        except OSError as error:
            raise self._gone(error) from None
        gc.collect()
        gc.disable()  # a pause of the collector would be measured as the server's
        try:
            await self._keep_schedule()
        finally:
            gc.enable()
        # Copies, taken now: what comes later is not an answer.
        run = LoadRun(self._due_s, self._seen_s[:], self._sent_s[:], self._done_s[:], self._status[:])
        await self._close()
        return run

    async def _keep_schedule(self) -> None:
        """Until every request has its answer, or the limit is there."""
        if not self._left:
            return
        limit = self._loop.call_later(START_AFTER_S + self._due_s[-1] + ANSWER_LIMIT_S, self._end)
        self._start_s = perf_counter() + START_AFTER_S
        self._wake()
        try:
            await self._over
        finally:
            limit.cancel()

    async def _close(self) -> None:
        """Leave no connection behind."""
        self._end()
        await asyncio.gather(*self._openings)
        for caller in self._callers:
            caller.transport.abort()
        if self._callers:
            await self._empty.wait()

    def opened(self, caller: _Caller) -> None:
        """A new connection."""
        self._callers.add(caller)
        self._empty.clear()
        self.free(caller)

    def free(self, caller: _Caller) -> None:
        """The caller can take a request."""
        if self._waiting:
            self._send(caller, self._waiting.popleft())
        else:
            self._free.append(caller)

    def answered(self, caller: _Caller, status: int, *, keep: bool) -> None:
        """The answer to the caller's request is whole; `keep`: the connection goes on."""
        request, caller.request = caller.request, -1
        if request < 0:  # nobody asked: such a server cannot be measured on this connection
            caller.transport.abort()
            return
        self._settle(request, status)
        if keep:
            self.free(caller)
        else:
            caller.transport.close()

    def lost(self, caller: _Caller, error: Exception | None) -> None:
        """The connection is gone, and with it what was in flight; another one takes its place."""
        self._callers.discard(caller)
        if not self._callers:
            self._empty.set()
        if caller.request >= 0:
            self._settle(caller.request, LOST)
        elif caller in self._free:
            self._free.remove(caller)
        if not self._over.done():
            opening = self._loop.create_task(self._reopen())
            self._openings.add(opening)
            opening.add_done_callback(self._openings.discard)

    def _wake(self) -> None:
        """Send what is due, and come back when the next request is."""
        if self._over.done():
            return
        now_s = perf_counter() - self._start_s
        due_s, seen_s, free = self._due_s, self._seen_s, self._free
        request, stop = self._next, min(self._next + SENDS_A_TURN, len(due_s))
        while request < stop and due_s[request] <= now_s:
            seen_s[request] = now_s
            if free:
                self._send(free.pop(), request)
            else:
                self._waiting.append(request)
            request += 1
        self._next = request
        if request == len(due_s):
            return
        ahead_s = due_s[request] - now_s
        if ahead_s > SPIN_S:
            self._loop.call_later(ahead_s - SPIN_S, self._wake)
        else:
            self._loop.call_soon(self._wake)

    def _send(self, caller: _Caller, request: int) -> None:
        caller.request = request
        self._sent_s[request] = perf_counter() - self._start_s
        caller.transport.write(self._requests[self._choice[request] if self._choice is not None else 0])

    def _settle(self, request: int, status: int) -> None:
        self._done_s[request] = perf_counter() - self._start_s
        self._status[request] = status
        self._left -= 1
        if not self._left:
            self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _connect(self) -> None:
        await self._loop.create_connection(lambda: _Caller(self), self._host, self._port)

    async def _reopen(self) -> None:
        try:
            await self._connect()
        except OSError as error:
            if not self._callers and not self._over.done():
                self._over.set_exception(self._gone(error))

    def _gone(self, error: OSError) -> ServerGone:
        return ServerGone(self._host, self._port, error.strerror or str(error))
