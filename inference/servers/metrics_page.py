"""`/metrics` of a server with several processes: whichever is asked collects from the others, and shows the whole."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

from inference.errors import LineUnavailable
from inference.monitoring.exposition import Exposition
from inference.monitoring.metrics import CONTENT_TYPE, Metrics
from inference.monitoring.process_families import (
    CounterFile,
    Family,
    Sample,
    decoded,
    encoded,
    merged,
    read_counters,
    render,
)
from inference.servers.exchange import Exchange, Response
from inference.servers.handover import Link, Neighbours

log = logging.getLogger(__name__)

NEIGHBOUR_LIMIT_S = 0.5  # for the counters of one other process; all are asked at once


class MetricsPage:
    """The page, and this process's part of it. Counting and writing take milliseconds, so they are done in threads."""

    def __init__(self, metrics: Metrics, neighbours: Neighbours, restarts: int) -> None:
        self._neighbours = neighbours
        self._restarts = restarts
        self._exposition = Exposition(metrics)
        self._kept = CounterFile(self._path(neighbours.own))
        self._lock = threading.Lock()  # two scrapes may come at once

    def count(self) -> bytes:
        """Our counters, with those of the processes that this one has replaced."""
        return encoded(self._own())

    async def __call__(self, exchange: Exchange) -> Response:
        """GET /metrics."""
        links = list(self._neighbours.links.values())
        told = await asyncio.gather(*(self._ask(link) for link in links))
        others = {link.owner: families for link, families in zip(links, told, strict=True)}
        return Response(200, await asyncio.to_thread(self._page, others), CONTENT_TYPE)

    async def _ask(self, link: Link) -> bytes | None:
        try:
            return await asyncio.wait_for(link.counters(), NEIGHBOUR_LIMIT_S)
        except (LineUnavailable, asyncio.TimeoutError):
            log.warning("process %d did not tell its counters; the page has those that it showed last", link.owner)
            return None

    def _page(self, others: dict[int, bytes | None]) -> bytes:
        own = self._neighbours.own
        parts = {own: self._own()}
        for process, told in others.items():
            parts[process] = read_counters(self._path(process)) if told is None else decoded(told)
        missing = sum(told is None for told in others.values())
        states = [("answering", len(others) + 1 - missing), ("missing", missing)]
        samples: list[Sample] = [("glassai_processes", (("state", state),), float(count)) for state, count in states]
        page = merged(dict(sorted(parts.items())))
        page.append(Family("glassai_processes", "Server processes, by whether they told this page.", "gauge", samples))
        return render(page)

    def _own(self) -> list[Family]:
        with self._lock:
            families = [*self._exposition.families(), self._handed_over(), self._restarted()]
            return self._kept.carried_on(families)

    def _handed_over(self) -> Family:
        name = "glassai_rows_handed_over"
        links = self._neighbours.links.values()
        samples: list[Sample] = [(f"{name}_total", (("to", str(link.owner)),), float(link.rows)) for link in links]
        return Family(name, "Rows handed over to the process that their line belongs to.", "counter", samples)

    def _restarted(self) -> Family:
        name = "glassai_process_restarts"
        return Family(name, "How often a process has been replaced.", "gauge", [(name, (), float(self._restarts))])

    def _path(self, process: int) -> Path:
        return self._neighbours.folder / f"{process}.counters"
