"""Writing a model package: the folder `<name>/<version>/` that the server's model repository reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnx
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray

from examples.glass_plant.metrics import Figure

Reliability = list[tuple[float, Figure]]
BATCH_ROWS_MAX = 1024


def write_package(
    folder: Path,
    graph: onnx.ModelProto,
    manifest: str,
    card: str,
    example: Mapping[str, NDArray[np.generic]],
    curves: Mapping[str, Reliability],
) -> None:
    """Write every file of one version and, last, their SHA256SUMS; files of an earlier make are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(graph, full_check=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "model.toml").write_text(manifest, encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    np.savez_compressed(folder / "example.npz", allow_pickle=False, **example)
    draw_reliability(folder / "reliability.png", curves)
    (folder / "SHA256SUMS").write_text(checksums(folder), encoding="utf-8")


def checksums(folder: Path) -> str:
    """Lines as `sha256sum` writes them, for every file but SHA256SUMS itself, sorted by name."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def draw_reliability(path: Path, curves: Mapping[str, Reliability]) -> None:
    """Observed share against predicted probability, one line per curve, with Wilson intervals."""
    mpl.rcParams["svg.hashsalt"] = "glass_plant"
    plot = Plot(figsize=(4.6, 4.2), dpi=80, layout="constrained")
    axes = plot.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (name, points), colour in zip(curves.items(), ("0.55", "tab:blue"), strict=False):
        x = [mean for mean, _ in points]
        y = [share.value for _, share in points]
        spread = [[s.value - s.low for _, s in points], [s.high - s.value for _, s in points]]
        axes.errorbar(x, y, yerr=np.maximum(spread, 0), marker="o", markersize=3, linewidth=1, color=colour, label=name)
    axes.set(xlabel="predicted", ylabel="observed on simulated held-out data", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    plot.savefig(path, metadata={"Software": None})


def toml_list(values: Sequence[float | str]) -> str:
    """A TOML array of numbers or plain strings."""
    return (
        "["
        + ", ".join(f'"{value}"' if isinstance(value, str) else repr(round(float(value), 6)) for value in values)
        + "]"
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in GitHub's markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
