"""The pictures of docs/benchmarks.md: requests/s beside the peers, and latencies of the open loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT
from benchmarks.results import Comparison, Tail

RATES_PLOT = ROOT / "docs" / "benchmarks.png"
TAILS_PLOT = ROOT / "docs" / "benchmarks-latency.png"
OURS = "Glass AI"
COLOURS = ("#1b6ca8", "#d98324", "#e8b36b", "#8d6a3f", "#b8b8b8")
GROUP_WIDTH = 0.84


def pyplot() -> Any:
    """matplotlib without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def draw_rates(comparisons: Sequence[Comparison], path: Path) -> None:
    """Requests/s of every server at each level, one panel a kind of request."""
    plt = pyplot()
    requests = sorted({c.request for c in comparisons})
    figure, panels = plt.subplots(1, len(requests), figsize=(5.6 * len(requests), 3.6), squeeze=False)
    for panel, request in zip(panels[0], requests, strict=True):
        of_request = [c for c in comparisons if c.request == request]
        names = list(dict.fromkeys([OURS, *(rival.name for c in of_request for rival in c.peers)]))
        width = GROUP_WIDTH / len(names)
        for place, name in enumerate(names):
            rates = [rate_of(c, name) for c in of_request]
            shift = (place - (len(names) - 1) / 2) * width
            bars = panel.bar([x + shift for x in range(len(rates))], rates, width, color=COLOURS[place], label=name)
            panel.bar_label(bars, [f"{rate / 1000:.1f}k" for rate in rates], fontsize=6)
        panel.set_xticks(
            range(len(of_request)), [f"{c.connections} caller{'s'[: c.connections > 1]}" for c in of_request]
        )
        panel.set_title(request, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=7)
    panels[0][0].set_ylabel("requests/s, one core")
    save(plt, figure, path)


def rate_of(comparison: Comparison, name: str) -> float:
    """Requests/s of the server with this name; 0 if it was not there."""
    if name == OURS:
        return comparison.ours.requests_s
    return next((rival.side.requests_s for rival in comparison.peers if rival.name == name), 0.0)


def draw_tails(tails: Sequence[Tail], path: Path) -> None:
    """p50, p90, p99 and p99.9 of each open-loop run, on a logarithmic scale."""
    plt = pyplot()
    figure, panel = plt.subplots(figsize=(7.2, 0.5 * len(tails) + 1.6))
    for shade, name in (("p50_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"), ("p999_ms", "p99.9")):
        panel.plot([getattr(one, shade) for one in tails], range(len(tails)), "o", label=name, alpha=0.85)
    panel.set_yticks(range(len(tails)), [one.what for one in tails])
    panel.set_xscale("log")
    panel.set_xlabel("latency of answered requests from the intended send time, ms")
    panel.grid(axis="x", alpha=0.3)
    panel.margins(y=0.2)
    panel.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    save(plt, figure, path)


def save(plt: Any, figure: Any, path: Path) -> None:
    """Write the picture and give its memory back."""
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
