"""docs/benchmarks.md, the short table of README.md and the plots, from what was measured.

The figures stand between two marks in each document; the prose around them is written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import ROOT, Machine
from benchmarks.plots import RATES_PLOT, TAILS_PLOT, draw_rates, draw_tails
from benchmarks.results import Comparison, Result, Side, read_results

DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"


def write_report(order: Sequence[str]) -> None:
    """Refresh both documents and the plots; rows come in this order."""
    kept = read_results()
    results = [kept[name] for name in order if name in kept]
    comparisons = [r.comparison for r in results if r.comparison]
    comparisons.sort(key=lambda c: (c.request, c.connections))
    replace_figures(DOCUMENT, document(results, comparisons))
    replace_figures(README, short_table(comparisons, results))
    if comparisons:
        draw_rates(comparisons, RATES_PLOT)
    if tails := [one for r in results for one in r.tails]:
        draw_tails(tails, TAILS_PLOT)


def replace_figures(path: Path, figures: str) -> None:
    """Put the figures between the marks of a document. A document without marks is left as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        path.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", encoding="utf-8")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def document(results: list[Result], comparisons: list[Comparison]) -> str:
    """All figures of docs/benchmarks.md."""
    parts = []
    if bars := [(r.row, bar) for r in results for bar in r.bars]:
        lines = [
            [f"`{row}`", bar.what, f"**{bar.figure}**", bar.limit, "met" if bar.met else "**not met**", bar.beside]
            for row, bar in bars
        ]
        parts += ["### Bars", table(["row", "what", "figure [95 %]", "bar", "", "beside it"], lines)]
    if comparisons:
        parts += ["### Over HTTP", http_table(comparisons), f"![requests per second]({RATES_PLOT.name})"]
    if tails := [one for r in results for one in r.tails]:
        lines = [
            [one.what, f"{one.requests:,}", *(f"{ms:.2f}" for ms in (one.p50_ms, one.p90_ms, one.p99_ms, one.p999_ms))]
            for one in tails
        ]
        parts += ["### Open loop", table(["run", "answered", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms"], lines)]
        parts.append(f"![latency of answered requests]({TAILS_PLOT.name})")
    if facts := [[f"`{r.row}`", *fact] for r in results for fact in r.facts]:
        parts += ["### Beside them", table(["row", "what", "figure"], facts)]
    if results:
        parts += ["### Machine", machine_text(results)]
    return "\n\n".join(parts)


def cells(side: Side) -> list[str]:
    """Requests/s, and p50 / p99."""
    return [f"{side.requests_s:,.0f}", f"{side.p50_ms:.2f} / {side.p99_ms:.2f}"]


def http_table(comparisons: list[Comparison]) -> str:
    """Every server at each level; latency is p50 / p99."""
    head = ["request", "callers", "server", "requests/s", "p50 / p99 ms", "ours against it [95 %]"]
    rows: list[list[str]] = []
    for c in comparisons:
        asked = [c.request, str(c.connections)]
        rows.append([*asked, "**Glass AI**", *cells(c.ours), f"control {c.control}"])
        rows += [[*asked, rival.name, *cells(rival.side), f"**{rival.ratio}**"] for rival in c.peers]
        rows.append([*asked, "constant route", *cells(c.constant), ""])
    return table(head, rows)


def short_table(comparisons: list[Comparison], results: list[Result]) -> str:
    """The table of README.md: requests/s beside the best peer, and the bars."""
    parts = []
    if comparisons:
        head = ["request", "callers", "Glass AI, requests/s", "p50 / p99 ms", "best peer", "ratio [95 %]"]
        rows = []
        for c in comparisons:
            best = max(c.peers, key=lambda rival: rival.side.requests_s)
            peer = f"{best.name}: {best.side.requests_s:,.0f}"
            rows.append([c.request, str(c.connections), *cells(c.ours), peer, str(best.ratio)])
        parts.append(table(head, rows))
    if bars := [
        [bar.what, bar.figure, bar.limit, "met" if bar.met else "**not met**"] for r in results for bar in r.bars
    ]:
        parts.append(table(["what", "figure", "bar", ""], bars))
    return "\n\n".join(parts)


def machine_text(results: list[Result]) -> str:
    """Machines and versions, with the rows that were measured on each."""
    measured: dict[Machine, list[str]] = {}
    for r in results:
        measured.setdefault(r.machine, []).append(f"{r.row} ({r.measured})")
    texts = []
    for machine, rows in measured.items():
        versions = ", ".join(f"{name} {number}" for name, number in machine.versions)
        texts.append(
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.system}, "
            f"Python {machine.python}, {machine.wrk}; {versions}. Rows, in UTC: {', '.join(rows)}."
        )
    return "\n\n".join(texts)
