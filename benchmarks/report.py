"""docs/benchmarks.md, the short table of README.md and the plot, from what was measured.

The figures stand between two marks in each document; the prose around them is written by hand.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench import ROOT, Machine
from benchmarks.results import Comparison, Result, read_results

DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
PLOT = ROOT / "docs" / "benchmarks.png"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"


def write_report() -> None:
    """Refresh both documents and the plot."""
    results = read_results()
    comparisons = [r.comparison for r in results.values() if r.comparison]
    comparisons.sort(key=lambda c: (c.request, c.connections))
    replace_figures(DOCUMENT, document(list(results.values()), comparisons))
    replace_figures(README, short_table(comparisons, list(results.values())))
    if comparisons:
        draw(comparisons)


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
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document(results: list[Result], comparisons: list[Comparison]) -> str:
    """All figures of docs/benchmarks.md."""
    parts = []
    if comparisons:
        parts += ["### Over HTTP", http_table(comparisons), "![requests per second](benchmarks.png)"]
    if bars := [bar for r in results for bar in r.bars]:
        lines = [[bar.what, bar.figure, bar.limit, "met" if bar.met else "**not met**"] for bar in bars]
        parts += ["### Bars", table(["what", "figure", "bar", ""], lines)]
    if facts := [list(fact) for r in results for fact in r.facts]:
        parts += ["### Beside them", table(["what", "figure"], facts)]
    if results:
        parts += ["### Machine", machine_text(results)]
    return "\n\n".join(parts)


def http_table(comparisons: list[Comparison]) -> str:
    """Both servers at each level; latency is p50 / p99."""
    head = ["request", "callers", "ours, requests/s", "p50 / p99 ms", "FastAPI, requests/s", "p50 / p99 ms"]
    head += ["ratio [95 %]", "control [95 %]", "constant route p50 / p99 ms"]
    rows = []
    for c in comparisons:
        sides = [
            cell
            for side in (c.ours, c.peer)
            for cell in (f"{side.requests_s:,.0f}", f"{side.p50_ms:.2f} / {side.p99_ms:.2f}")
        ]
        constant = f"{c.constant.p50_ms:.2f} / {c.constant.p99_ms:.2f}"
        rows.append([c.request, str(c.connections), *sides, f"**{c.ratio}**", str(c.control), constant])
    return table(head, rows)


def short_table(comparisons: list[Comparison], results: list[Result]) -> str:
    """The table of README.md: requests/s beside the peer, and the bars."""
    parts = []
    if comparisons:
        head = ["request", "callers", "Glass AI, requests/s", "p50 / p99 ms", "FastAPI + onnxruntime", "ratio [95 %]"]
        rows = [
            [
                c.request,
                str(c.connections),
                f"{c.ours.requests_s:,.0f}",
                f"{c.ours.p50_ms:.2f} / {c.ours.p99_ms:.2f}",
                f"{c.peer.requests_s:,.0f}",
                f"{c.ratio}",
            ]
            for c in comparisons
        ]
        parts.append(table(head, rows))
    if bars := [[bar.what, bar.figure, bar.limit] for r in results for bar in r.bars]:
        parts.append(table(["what", "figure", "bar"], bars))
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


def draw(comparisons: list[Comparison]) -> None:
    """Requests/s of both servers at each level, one panel a kind of request."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    requests = sorted({c.request for c in comparisons})
    figure, panels = plt.subplots(1, len(requests), figsize=(5 * len(requests), 3.4), squeeze=False, sharey=True)
    for panel, request in zip(panels[0], requests, strict=True):
        of_request = [c for c in comparisons if c.request == request]
        places = range(len(of_request))
        for shift, name, colour in ((-0.2, "ours", "#1b6ca8"), (0.2, "peer", "#b8b8b8")):
            rates = [getattr(c, name).requests_s for c in of_request]
            label = "Glass AI" if name == "ours" else "FastAPI + onnxruntime"
            bars = panel.bar([place + shift for place in places], rates, 0.38, color=colour, label=label)
            panel.bar_label(bars, [f"{rate:,.0f}" for rate in rates], fontsize=7)
        panel.set_xticks(list(places), [f"{c.connections} caller{'s'[: c.connections > 1]}" for c in of_request])
        panel.set_title(request, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("requests/s, one core")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})
    plt.close(figure)
