"""Write simulated sensor rows or simulated pictures of glass; needs numpy and Pillow only.

`python -m examples.glass_plant.simulate rows --rows 1000 --seed 1 --out rows.csv`
`python -m examples.glass_plant.simulate images --count 20 --seed 1 --out folder/`
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from examples.glass_plant.glass import Campaign, colour, picture_kind, render_grey
from examples.glass_plant.line import DEFECT_TYPES, ROW_INTERVAL_S, SENSORS, simulate_line

JPEG_QUALITY = 90
COLUMNS = ("time_s", *SENSORS, "defect", "defect_type", "defect_probability_true")


def main() -> None:
    """Parse the command line and write what it asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.glass_plant.simulate", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    rows = kinds.add_parser("rows", help="one simulated run as CSV; a dropped reading is an empty cell")
    rows.add_argument("--rows", type=int, default=1000)
    images = kinds.add_parser("images", help="simulated JPEGs of 1024 x 1024 pixels and labels.csv")
    images.add_argument("--count", type=int, default=20)
    for each in (rows, images):
        each.add_argument("--seed", type=int, default=1)
        each.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.kind == "rows":
        write_rows(args.out, args.rows, args.seed)
    else:
        write_images(args.out, args.count, args.seed)
    print(f"simulated {args.kind} written to {args.out}")


def write_rows(path: Path, rows: int, seed: int) -> None:
    """One simulated run of `rows` rows as CSV with the columns of `COLUMNS`."""
    line = simulate_line(seed, 1, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in range(rows):
            readings = ["" if np.isnan(value) else f"{value:.2f}" for value in line.sensors[0, row]]
            kind = int(line.defect_type[0, row])
            truth = f"{line.defect_probability[0, row]:.5f}"
            writer.writerow([f"{row * ROW_INTERVAL_S:.0f}", *readings, int(kind > 0), DEFECT_TYPES[kind], truth])


def write_images(folder: Path, count: int, seed: int) -> None:
    """`count` simulated pictures `glass_00000.jpg` ... and labels.csv (file, label); all of one campaign."""
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign.draw(seed)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label"))
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            kind = picture_kind(rng)
            name = f"glass_{index:05d}.jpg"
            colour(render_grey(campaign, kind, rng), campaign).save(folder / name, quality=JPEG_QUALITY)
            writer.writerow((name, kind))


if __name__ == "__main__":
    main()
