"""One page for all processes, whichever is asked, and whoever is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from inference.servers import metrics_page
from tests.inference.servers.neighbourhood import Process, ask, line_of, package, process
from tests.inference.servers.test_inference_api import call, row

COUNTED = 'glassai_rows_total{model="window",version="1"}'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return package(tmp_path / "models")


async def page(asked: Process) -> dict[str, float]:
    answer = await ask(asked.app, None, "GET", "/metrics")
    assert (answer.status, answer.headers["content-type"][:10]) == (200, "text/plain")
    lines = [line for line in answer.body.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def feed(asked: Process, owner: int, rows: int = 1) -> None:
    for _ in range(rows):
        assert (await ask(asked.app, call("window", row(), stream_id=line_of(owner)))).status == 200


async def test_whichever_is_asked_shows_the_whole(models: Path, tmp_path: Path) -> None:
    async with process(models, tmp_path, 0) as first, process(models, tmp_path, 1) as second:
        before = await page(first)
        await feed(first, owner=0, rows=2)
        await feed(first, owner=1, rows=3)
        await feed(second, owner=1, rows=4)
        for asked in (first, second):
            found = await page(asked)
            assert found[COUNTED] - before[COUNTED] == 9
            assert found['glassai_rows_handed_over_total{to="1"}'] == 3
            assert found['glassai_rows_handed_over_total{to="0"}'] == 0
            assert found['glassai_lines{model="window",version="1"}'] == 2
            assert found['glassai_processes{state="answering"}'] == 2
            assert found['glassai_process_restarts{process="0"}'] == 0


async def test_one_that_is_gone_is_missing_and_its_counts_stay(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(models, tmp_path, 0) as first:
        async with process(models, tmp_path, 1):
            await feed(first, owner=1, rows=5)
            whole = await page(first)
        found = await page(first)
        assert found[COUNTED] == whole[COUNTED]
        assert found['glassai_processes{state="missing"}'] == 1
        assert found['glassai_processes{state="answering"}'] == 1
        assert "process 1 did not tell its counters" in caplog.text
        async with process(models, tmp_path, 1):
            again = await page(first)
            assert again[COUNTED] == whole[COUNTED] + 1  # the canary of the successor
            assert again['glassai_processes{state="missing"}'] == 0


async def test_one_that_does_not_answer_is_not_waited_for(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_page, "NEIGHBOUR_LIMIT_S", 0.01)

    asked = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        try:
            await reader.read()
        finally:
            writer.close()

    async with process(models, tmp_path, 0) as first:
        hung = await asyncio.start_unix_server(mute, str(tmp_path / "1.sock"))
        try:
            found = await page(first)
            assert found['glassai_processes{state="missing"}'] == 1
            await asyncio.wait_for(asked.wait(), 10)
        finally:
            hung.close()


async def test_two_pages_at_once_count_nothing_twice(models: Path, tmp_path: Path) -> None:
    async with process(models, tmp_path, 0) as first, process(models, tmp_path, 1) as second:
        await feed(first, owner=0, rows=3)
        pages: list[dict[str, Any]] = await asyncio.gather(*(page(asked) for asked in (first, second) * 4))
        assert {found[COUNTED] for found in pages} == {5}  # and the canary of each
