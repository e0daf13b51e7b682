"""The side of the process that a line belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inference.monitoring.process_families import decoded
from inference.protocols.handover_frames import (
    Counters,
    CountersWanted,
    FrameReader,
    HandedRow,
    Question,
    RowAnswer,
    RowRefusal,
    Withdrawal,
    encoded,
)
from inference.tensor import Tensors
from tests.inference.servers.neighbourhood import Process, line_of, mean_of_the_first_sensor, package, process
from tests.inference.servers.test_inference_api import row

FAR_S = 1e9  # a time of the clock at which no row is late


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return package(tmp_path / "models")


class Neighbour:
    """Another process that hands rows over, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._found: list[Any] = []

    def say(self, *questions: Question) -> None:
        self.writer.write(b"".join(map(encoded, questions)))

    async def hears(self, count: int = 1) -> list[Any]:
        while len(self._found) < count:
            piece = await asyncio.wait_for(self._reader.read(65536), 10)
            assert piece, "the connection was closed"
            self._found += self._frames.feed(piece)
        heard, self._found = self._found[:count], self._found[count:]
        return heard


@asynccontextmanager
async def owner(
    models: Path, sockets: Path, run: Any = mean_of_the_first_sensor
) -> AsyncIterator[tuple[Process, Neighbour]]:
    async with process(models, sockets, 1, run) as own:
        reader, writer = await asyncio.open_unix_connection(str(sockets / "1.sock"))
        try:
            yield own, Neighbour(reader, writer)
        finally:
            writer.close()


def handed(number: int, fields: dict[str, object], version: int = 1, arrived_s: float = FAR_S) -> HandedRow:
    return HandedRow(number, "window", version, line_of(1), msgspec.json.encode(fields), f"req_{number}", arrived_s)


async def test_rows_enter_their_line_in_the_order_of_the_bytes(models: Path, tmp_path: Path) -> None:
    rows = [handed(n, row(n / 10, timestamp=f"2025-12-05T10:0{n}:00Z")) for n in range(5)]
    async with owner(models, tmp_path) as (_, neighbour):
        neighbour.say(*rows)
        answers = {answer.number: msgspec.json.decode(answer.body) for answer in await neighbour.hears(5)}
        assert [answers[n]["result"]["real_rows"] for n in range(5)] == [1, 2, 3, 4, 4]


async def test_a_row_without_a_time_is_the_newest_when_it_comes(models: Path, tmp_path: Path) -> None:
    async with owner(models, tmp_path) as (_, neighbour):
        neighbour.say(*(handed(n, row(n / 10)) for n in range(3)))
        answers = sorted(await neighbour.hears(3), key=lambda answer: answer.number)
        assert [msgspec.json.decode(answer.body)["result"]["real_rows"] for answer in answers] == [1, 2, 3]


async def test_time_counts_from_the_arrival_at_the_first_process(models: Path, tmp_path: Path) -> None:
    async with owner(models, tmp_path) as (own, neighbour):
        neighbour.say(handed(1, row(), arrived_s=own.engine.clock() - 2.0))
        (answer,) = await neighbour.hears()
        assert msgspec.json.decode(answer.body)["result"]["processing_time_ms"] > 2000
        neighbour.say(handed(2, row(), arrived_s=own.engine.clock() - 31.0))
        (late,) = await neighbour.hears()
        assert isinstance(late, RowRefusal)
        assert late.reason in ("deadline_passed", "deadline_unreachable")


async def test_a_bad_row_and_an_unknown_version_are_refused(models: Path, tmp_path: Path) -> None:
    async with owner(models, tmp_path) as (own, neighbour):
        neighbour.say(handed(1, row("hot")), handed(2, row(), version=9), handed(3, row()))
        heard = {frame.number: frame for frame in await neighbour.hears(3)}
        assert heard[1].reason == "invalid_values"
        assert heard[2].reason == "version_not_found"
        assert isinstance(heard[3], RowAnswer)
        assert own.engine.waiting_callers == 0


async def test_a_fault_of_ours_is_logged_under_the_callers_id(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with owner(models, tmp_path) as (own, neighbour):
        monkeypatch.setattr(own.models, "resolve", lambda *named: 1 / 0)
        neighbour.say(handed(1, row()))
        (refused,) = await neighbour.hears()
        assert (refused.reason, "req_1" in refused.sentence) == ("internal_error", True)
        (record,) = [record for record in caplog.records if record.getMessage() == "request failed"]
        assert record.__dict__["request_id"] == "req_1"


async def test_a_model_that_answers_nan_is_an_error_here_too(models: Path, tmp_path: Path) -> None:
    def run(inputs: Tensors) -> Tensors:
        return {"defect_probability": inputs["rows"][:, :1, 0] * float("nan")}

    async with owner(models, tmp_path, run) as (_, neighbour):
        neighbour.say(handed(1, row()))
        (refused,) = await neighbour.hears()
        assert refused.reason == "non_finite_output"


async def test_who_withdraws_what_is_answered_already_harms_nobody(models: Path, tmp_path: Path) -> None:
    async with owner(models, tmp_path) as (_, neighbour):
        neighbour.say(handed(1, row()))
        await neighbour.hears()
        neighbour.say(Withdrawal(1), Withdrawal(99), handed(2, row()))
        (answer,) = await neighbour.hears()
        assert (type(answer), answer.number) == (RowAnswer, 2)


async def test_what_is_no_frame_ends_the_connection_and_no_other(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with owner(models, tmp_path) as (_, neighbour):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "1.sock"))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert "a neighbour's connection is closed" in caplog.text
        neighbour.say(handed(1, row()))
        assert len(await neighbour.hears()) == 1


async def test_counters_are_told(models: Path, tmp_path: Path) -> None:
    async with owner(models, tmp_path) as (_, neighbour):
        neighbour.say(handed(1, row()), CountersWanted(2))
        (counters,) = [frame for frame in await neighbour.hears(2) if isinstance(frame, Counters)]
        assert counters.number == 2
        assert "glassai_requests" in {family.name for family in decoded(counters.families)}
