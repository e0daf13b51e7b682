"""Draw the README's contact sheet of simulated pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from examples.glass_plant.glass import Campaign, colour, render_grey
from examples.glass_plant.line import DEFECT_TYPES
from examples.glass_plant.pixels import shrink

CELL, GAP, CAMPAIGNS = 200, 4, (100, 101, 103)


def contact_sheet(path: Path) -> None:
    """Classes across, campaigns down, as a PNG of at most 256 colours."""
    step = CELL + GAP
    sheet = Image.new("RGB", (step * len(DEFECT_TYPES) - GAP, step * len(CAMPAIGNS) - GAP), "white")
    for row, seed in enumerate(CAMPAIGNS):
        campaign = Campaign.draw(seed)
        for column, kind in enumerate(DEFECT_TYPES):
            picture = colour(render_grey(campaign, kind, np.random.default_rng([row, column])), campaign)
            sheet.paste(Image.fromarray(shrink(picture, CELL, CELL)), (column * step, row * step))
    sheet.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    contact_sheet(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("contact-sheet.png"))
