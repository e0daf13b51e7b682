"""Rows that go to the process of their line, and come back as if it had been asked itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inference.errors import DeadlinePassed, LineUnavailable, QueueFull, Stopping
from inference.pipeline.sample import Sample
from inference.protocols.call_limits import NO_LIMITS
from inference.protocols.handover_frames import FrameReader, Reply, RowAnswer, Withdrawal, encoded
from inference.request import Answer
from inference.servers import handover
from inference.servers.exchange import Pending
from inference.servers.handover import HandedBack, HandedRequest, Link
from tests.inference.servers.neighbourhood import (
    Process,
    ask,
    line_of,
    mean_of_the_first_sensor,
    package,
    process,
)
from tests.inference.servers.test_inference_api import call, row


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return package(tmp_path / "models")


def told(answered: Any) -> tuple[int, Any, str | None]:
    """What a caller is told, without ids and times."""
    body = answered.body
    body.pop("prediction_id", None)
    body.get("result", {}).pop("processing_time_ms", None)
    return answered.status, body, answered.headers.get("retry-after")


# ---- two processes ---------------------------------------------------------------------------------------------------


async def test_a_row_is_answered_alike_wherever_it_comes(models: Path, tmp_path: Path) -> None:
    calls = [
        call("window", row(minute / 10, timestamp=f"2025-12-05T10:0{minute}:00Z"), stream_id=line_of(1))
        for minute in range(6)
    ]
    async with process(models, tmp_path, 0) as first, process(models, tmp_path, 1) as second:
        answers = [told(await ask((first, second)[n % 2].app, call)) for n, call in enumerate(calls)]
        assert [answer[1]["result"]["real_rows"] for answer in answers] == [1, 2, 3, 4, 4, 4]
        assert answers[5][1]["result"]["defect_probability"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4, abs=1e-6)
        assert told(await ask(first.app, calls[5])) == told(await ask(second.app, calls[5])) == answers[5]
        assert first.neighbours.links[1].rows == 4
        assert second.neighbours.links[0].rows == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (call("window", row(5.0), stream_id="LINE"), 422),
        (call("window", row("hot"), stream_id="LINE"), 422),
        (call("window", {**row(), "glass": 1}, stream_id="LINE"), 400),
        (call("window", row(10**400), stream_id="LINE"), 422),
        (call("window", row(0.5, timestamp="2025-12-05T10:00:00Z"), stream_id="LINE"), 409),
        (call("window", row(timestamp="noon"), stream_id="LINE", timeout_ms=9e9), 422),
    ],
)
async def test_a_refusal_is_the_same_too(models: Path, tmp_path: Path, body: dict[str, Any], status: int) -> None:
    line = line_of(1)
    async with process(models, tmp_path, 0) as first, process(models, tmp_path, 1) as second:
        held = call("window", row(0.1, timestamp="2025-12-05T10:00:00Z"), stream_id=line)
        assert (await ask(second.app, held)).status == 200
        bad = {**body, "stream_id": line}
        here, there = await ask(second.app, bad), await ask(first.app, bad)
        assert here.status == status
        assert told(there) == told(here)
        assert there.headers["x-request-id"] == "the-callers"


async def test_a_line_of_our_own_and_a_row_of_no_line_stay_here(models: Path, tmp_path: Path) -> None:
    async with process(models, tmp_path, 0) as first:  # there is no other to ask
        assert (await ask(first.app, call("window", row(), stream_id=line_of(0)))).status == 200
        assert (await ask(first.app, call("window", row()))).status == 200


async def test_without_its_owner_a_row_enters_no_line_and_may_come_again(models: Path, tmp_path: Path) -> None:
    body = call("window", row(0.1, timestamp="2025-12-05T10:00:00Z"), stream_id=line_of(1))
    async with process(models, tmp_path, 0) as first:
        status, refused, retry_after = told(await ask(first.app, body))
        assert (status, refused["reason"], retry_after) == (503, "line_unavailable", "1")
        async with process(models, tmp_path, 1):
            assert (await ask(first.app, body)).status == 200
        assert told(await ask(first.app, body))[1]["reason"] == "line_unavailable"
        async with process(models, tmp_path, 1):
            answer = await ask(first.app, body)
            assert (answer.status, answer.body["result"]["real_rows"]) == (200, 1)


@asynccontextmanager
async def held_back(models: Path, sockets: Path) -> AsyncIterator[tuple[Process, Process, threading.Event]]:
    """Two processes, of which the second answers when the event is set."""
    gate = threading.Event()

    def run(inputs: Any) -> Any:
        gate.wait(10)
        return mean_of_the_first_sensor(inputs)

    gate.set()
    async with process(models, sockets, 0) as first, process(models, sockets, 1, run) as second:
        gate.clear()
        try:
            yield first, second, gate
        finally:
            gate.set()


async def until(condition: Any) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("it never came to pass")


async def test_who_hangs_up_frees_the_place_at_the_owner(models: Path, tmp_path: Path) -> None:
    async with held_back(models, tmp_path) as (first, second, _):
        asking = asyncio.create_task(ask(first.app, call("window", row(), stream_id=line_of(1))))
        await until(lambda: second.engine.waiting_callers == 1)
        asking.cancel()
        await until(lambda: second.engine.waiting_callers == 0)
        assert first.neighbours.links[1].waiting == 0


async def test_a_process_that_goes_frees_the_places_of_its_callers(models: Path, tmp_path: Path) -> None:
    async with held_back(models, tmp_path) as (first, second, _):
        asking = asyncio.create_task(ask(first.app, call("window", row(), stream_id=line_of(1))))
        await until(lambda: second.engine.waiting_callers == 1)
        first.neighbours.stop()
        assert told(await asking)[1]["reason"] == "stopping"
        await until(lambda: second.engine.waiting_callers == 0)


async def test_a_drain_waits_for_what_is_handed_over_and_takes_no_more(models: Path, tmp_path: Path) -> None:
    async with held_back(models, tmp_path) as (first, second, gate):
        body = call("window", row(), stream_id=line_of(1))
        asking = asyncio.create_task(ask(first.app, body))
        await until(lambda: second.engine.waiting_callers == 1)
        assert not await first.neighbours.drain(0.01)
        assert told(await ask(first.app, body))[1]["reason"] == "stopping"
        draining = asyncio.create_task(first.neighbours.drain(10.0))
        gate.set()
        assert await draining
        assert (await asking).status == 200


# ---- one link, and an owner that the test plays ----------------------------------------------------------------------


class Owner:
    """Listens, takes frames, and answers when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: list[Any] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Owner:
        self._server = await asyncio.start_unix_server(self._take, str(self.path))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        frames = FrameReader()
        try:
            while piece := await reader.read(65536):
                self.frames += frames.feed(piece)
        finally:
            writer.close()

    def say(self, what: bytes | Reply) -> None:
        self._writers[-1].write(what if isinstance(what, bytes) else encoded(what))

    def hang_up(self) -> None:
        self._writers[-1].close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def linked(models: Path, folder: Path) -> AsyncIterator[tuple[Link, Owner, Clock, Any]]:
    """A link to an owner, and what begins a row of it."""
    clock = Clock()
    async with process(models, folder, 0) as first, Owner(folder / "owner.sock") as owner:
        link = Link(1, owner.path, clock)
        served = first.models.resolve("window")

        def begin() -> Pending:
            return link.begin(served, Sample(row(), None, "L1"), clock.now, NO_LIMITS, "req_1")

        try:
            yield link, owner, clock, begin
        finally:
            link.close()


async def test_answers_find_their_callers_in_any_order(models: Path, tmp_path: Path) -> None:
    async with linked(models, tmp_path) as (link, owner, _, begin):
        pendings = [begin() for _ in range(3)]
        futures = [link.ask(pending.request) for pending in pendings]
        await until(lambda: len(owner.frames) == 3)
        for number in (3, 1, 2):
            owner.say(RowAnswer(number, b"body %d" % number))
        answers = [await future for future in futures]
        assert [p.respond(a).body for p, a in zip(pendings, answers, strict=True)] == [b"body 1", b"body 2", b"body 3"]
        assert link.waiting == 0


async def test_a_caller_who_left_is_never_told(models: Path, tmp_path: Path) -> None:
    async with linked(models, tmp_path) as (link, owner, _, begin):
        heard: list[Answer] = []
        left, stays = begin(), begin()
        link.submit(left.request, heard.append)
        link.submit(stays.request, heard.append)
        link.cancel(left.request)
        await until(lambda: len(owner.frames) == 3)
        assert owner.frames[-1] == Withdrawal(1)
        owner.say(RowAnswer(1, b"late"))
        owner.say(RowAnswer(2, b"in time"))
        await until(lambda: heard)
        assert [answer.body for answer in heard if isinstance(answer, HandedBack)] == [b"in time"]
        link.cancel(stays.request)
        assert len(owner.frames) == 3


async def test_an_owner_that_hangs_up_is_gone_for_all_who_wait_and_asked_again_by_the_next(
    models: Path, tmp_path: Path
) -> None:
    async with linked(models, tmp_path) as (link, owner, _, begin):
        futures = [link.ask(begin().request) for _ in range(2)]
        await until(lambda: len(owner.frames) == 2)
        owner.hang_up()
        assert [type(await future) for future in futures] == [LineUnavailable] * 2
        again = link.ask(begin().request)
        await until(lambda: len(owner.frames) == 3)
        owner.say(RowAnswer(3, b"back"))
        assert isinstance(await again, HandedBack)


async def test_an_owner_that_speaks_nonsense_is_left(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(models, tmp_path) as (link, owner, _, begin):
        future = link.ask(begin().request)
        await until(lambda: owner.frames)
        owner.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert isinstance(await future, LineUnavailable)
        assert "the connection to process 1 is closed" in caplog.text


async def test_an_owner_that_is_silent_holds_nobody_beyond_the_deadline(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "SWEEP_S", 0.001)
    async with linked(models, tmp_path) as (link, owner, clock, begin):
        future = link.ask(begin().request)
        await until(lambda: owner.frames)
        clock.now += 30.9  # past its deadline, and still the owner's to say so
        await asyncio.sleep(0.01)
        assert not future.done()
        clock.now += 0.2
        assert isinstance(await future, DeadlinePassed)
        assert link.waiting == 0


@pytest.mark.parametrize(("bound", "value"), [("ROWS_MAX", 2), ("BYTES_MAX", 250)])
async def test_more_than_the_bound_is_refused_at_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(handover, bound, value)
    async with linked(models, tmp_path) as (link, owner, _, begin):
        size = begin().request.byte_count
        assert 250 // 3 < size <= 250 // 2  # so that the third is one too many either way
        futures = [link.ask(begin().request) for _ in range(3)]
        refused = await futures[2]
        assert isinstance(refused, QueueFull)
        assert refused.retry_after_s == 1.0
        await until(lambda: len(owner.frames) == 2)
        owner.say(RowAnswer(2, b"{}"))
        await futures[0]
        assert isinstance(await asyncio.wait_for(_answered(link, begin, owner), 5), HandedBack)


async def _answered(link: Link, begin: Any, owner: Owner) -> Answer:
    future = link.ask(begin().request)
    await until(lambda: len(owner.frames) == 3)
    owner.say(RowAnswer(owner.frames[-1].number, b"{}"))
    return await future


async def test_a_link_that_is_closed_tells_who_waits(models: Path, tmp_path: Path) -> None:
    async with linked(models, tmp_path) as (link, owner, _, begin):
        future, counters = link.ask(begin().request), link.counters()
        await until(lambda: len(owner.frames) == 2)
        link.close()
        assert isinstance(await future, Stopping)
        with pytest.raises(Stopping):
            await counters


async def test_a_request_of_another_kind_is_a_mistake(models: Path, tmp_path: Path) -> None:
    async with linked(models, tmp_path) as (link, _, _, begin):
        assert isinstance(begin().request, HandedRequest)
        with pytest.raises(AssertionError):
            link.submit(object(), lambda answer: None)  # type: ignore[arg-type] - on purpose
