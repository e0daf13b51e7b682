"""Puts the metrics of several processes of one server on one page.

Counters and histograms are summed. A gauge is summed where a sum says something, shown once where every process reads
the same, and otherwise shown by process. What a process has counted outlives it: whatever a page has shown is kept, and
counted on by its successor, since Prometheus takes a counter that falls for one that began anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

LABEL = "process"
GROWING = frozenset({"counter", "histogram", "summary"})
SUMMED = frozenset(
    {
        *("glassai_queue_rows", "glassai_queue_bytes", "glassai_requests_pending", "glassai_lines"),
        *("glassai_runners", "glassai_runners_idle", "glassai_runners_wanted", "glassai_stream_connections"),
        "nv_inference_pending_request_count",
        *("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_threads"),
    }
)
SHOWN_ONCE = frozenset(
    {"glassai_build_info", "glassai_gpu_load", "glassai_gpu_memory_used_bytes", "glassai_gpu_memory_total_bytes"}
)

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


class Family(msgspec.Struct, array_like=True):
    """One metric with its samples: by the sample's name and labels, in the order in which they are written."""

    name: str
    meaning: str
    kind: str
    samples: list[Sample]

    @property
    def grows(self) -> bool:
        """True for what never falls while a process lives. Triton's counters are untyped."""
        return self.kind in GROWING or (self.kind == "unknown" and self.name not in SUMMED)


_FAMILIES = msgspec.msgpack.Decoder(list[Family])


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    """The families of one process."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, tuple(sample.labels.items()), float(sample.value)) for sample in metric.samples],
        )
        for metric in metrics
    ]


def encoded(families: list[Family]) -> bytes:
    """The families as bytes for another process."""
    return msgspec.msgpack.encode(families)


def decoded(families: bytes) -> list[Family]:
    """The families of another process. Raises msgspec.DecodeError."""
    return _FAMILIES.decode(families)


def merged(by_process: Mapping[int, list[Family]]) -> list[Family]:
    """One page from the families of each process, in the order in which the first process has them."""
    names: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, Labels], float]] = {}
    for process, families in sorted(by_process.items()):
        for family in families:
            first = names.setdefault(family.name, family)
            _join(first, family, process, sums.setdefault(family.name, {}))
    return [
        Family(family.name, family.meaning, family.kind, [(*key, value) for key, value in sums[name].items()])
        for name, family in names.items()
    ]


def added(families: list[Family], before: list[Family]) -> list[Family]:
    """These families, those that grow with the sums of before."""
    earlier = {family.name: family for family in before}
    whole = []
    for family in families:
        grown = earlier.pop(family.name, None)
        if grown is None:
            whole.append(family)
            continue
        sums: dict[tuple[str, Labels], float] = {}
        for part in (grown, family):
            _join(part, part, 0, sums)
        samples = [(*key, value) for key, value in sums.items()]
        whole.append(Family(family.name, family.meaning, family.kind, samples))
    return [*whole, *earlier.values()]


def _join(first: Family, family: Family, process: int, into: dict[tuple[str, Labels], float]) -> None:
    if family.grows or family.name in SUMMED:
        for name, labels, value in family.samples:
            into[name, labels] = into.get((name, labels), 0.0) + value
    elif family.name in SHOWN_ONCE:
        if first is family:
            into.update({(name, labels): value for name, labels, value in family.samples})
    else:
        for name, labels, value in family.samples:
            into[name, (*labels, (LABEL, str(process)))] = value


def render(families: Iterable[Family]) -> bytes:
    """The text format of Prometheus, version 0.0.4."""
    return generate_latest(_Page(list(families)))


class _Page(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.meaning, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


class CounterFile:
    """What a process has counted and shown, for those who come after it. Used from any one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = [family for family in read_counters(path) if family.grows]

    def carried_on(self, families: list[Family]) -> list[Family]:
        """These families with what the process's predecessors have counted; kept before anybody sees them."""
        whole = added(families, self._before)
        kept = encoded([family for family in whole if family.grows])
        beside = self._path.with_suffix(".new")
        beside.write_bytes(kept)
        beside.replace(self._path)
        return whole


def read_counters(path: Path) -> list[Family]:
    """What is kept of a process; nothing if it has shown nothing yet."""
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("the counters of an earlier process cannot be read: %s", error)
        return []
