"""The one metric registry of a process: counters by model version and by HTTP route, written for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from inference.model import ModelKey
from inference.monitoring.counters import VersionMetrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"  # of Metrics.render
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"))  # all others share one label


class Metrics:
    """All counters of a process. Written by the loop's thread, read by any."""

    def __init__(self) -> None:
        self.versions: dict[ModelKey, VersionMetrics] = {}
        self.responses: dict[tuple[str, str, int], int] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        self.stream_connections = 0
        self._render: Callable[[], bytes] | None = None

    def for_version(self, key: ModelKey) -> VersionMetrics:
        """The counters of this version, the same ones at every call."""
        found = self.versions.get(key)
        if found is None:
            found = VersionMetrics(key)
            self.versions = {**self.versions, key: found}  # replaced, since a scrape may be walking the old one
        return found

    def forget(self, key: ModelKey) -> None:
        """Drop the counters of a version that is no longer served."""
        self.versions = {held: counters for held, counters in self.versions.items() if held != key}

    def count_response(self, route: str, method: str, status: int, reason: str = "") -> None:
        """An HTTP answer. `route` is a path template, never a caller's own path, so that the labels stay few."""
        at = (route, method if method in METHODS else "other", status)
        self.responses[at] = self.responses.get(at, 0) + 1
        if reason:
            self.refusals[route, reason] = self.refusals.get((route, reason), 0) + 1

    def count_connections(self, change: int) -> None:
        """So many more WebSockets are open."""
        self.stream_connections += change

    def render(self) -> bytes:
        """The text format of Prometheus (CONTENT_TYPE). Takes milliseconds: call it off the loop."""
        if self._render is None:
            # prometheus_client takes some 50 ms to import, which the first scrape can spare and the start cannot.
            from inference.monitoring.exposition import Exposition

            self._render = Exposition(self).render
        return self._render()
