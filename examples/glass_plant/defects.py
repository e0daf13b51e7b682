"""Drawing the four simulated defects, each in its own small patch of grey-level changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

LINE_SCALE = 2  # lines are drawn at twice the size and shrunk, which smooths their edges
MARGIN = 12  # pixels around a line


@dataclass(frozen=True)
class Patch:
    """Changes of grey level, float32 [height, width], and the place of their first pixel; it may lie outside."""

    levels: NDArray[np.float32]
    top: int
    left: int

    @staticmethod
    def anywhere(rng: np.random.Generator, levels: NDArray[np.float32], side: int = 1024) -> Patch:
        """A patch whose centre lies inside the inner 90 % of the picture."""
        y, x = rng.uniform(0.05 * side, 0.95 * side, 2)
        return Patch(levels, int(y - levels.shape[0] / 2), int(x - levels.shape[1] / 2))


def bubbles(rng: np.random.Generator, contrast: float, softness: float) -> list[Patch]:
    """One to three ellipses with a dark rim, a bright inner edge towards the lamp, drawn out along the ribbon."""
    return [_bubble(rng, contrast, softness) for _ in range(1 + rng.binomial(2, 0.2))]


def inclusions(rng: np.random.Generator, contrast: float, softness: float) -> list[Patch]:
    """An irregular dark stone, sometimes with the bright tail that it leaves in the drawn glass."""
    radius = float(np.clip(rng.lognormal(2.9, 0.4), 7, 60))
    tail = radius * rng.uniform(1, 5) * (rng.random() < 0.6)
    half = int(2 * radius + 3 * softness + tail) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    angle = np.arctan2(y, x)
    edge = np.ones_like(x)
    for lobe in range(2, 7):
        edge += rng.normal(0, 0.28 / lobe**0.7) * np.cos(lobe * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(x, y) - radius * np.maximum(edge, 0.25)
    stone = 1 / (1 + np.exp(np.clip(distance / (0.5 * softness), -30, 30)))
    levels = -contrast * rng.uniform(30, 110) * stone * rng.normal(1.0, 0.1, x.shape)
    if tail > 0:
        streak = np.exp(-0.5 * ((x / (0.6 * radius)) ** 2 + (y / tail) ** 2))
        levels = levels + contrast * rng.uniform(5, 16) * streak * (1 - stone)
    return [Patch.anywhere(rng, levels.astype(np.float32))]


def cracks(rng: np.random.Generator, contrast: float, softness: float) -> list[Patch]:
    """A jagged line that branches: dark, with a bright flank where the broken face catches the light."""
    heading = rng.uniform(0, 2 * np.pi)
    trunk = _walk(rng, np.zeros(2), heading, rng.uniform(200, 700))
    lines = [trunk]
    for _ in range(rng.poisson(1.6)):
        start = trunk[rng.integers(1, len(trunk))]
        lines.append(_walk(rng, start, heading + rng.choice((-1, 1)) * rng.uniform(0.4, 1.1), rng.uniform(40, 240)))
    dark = _stroke(lines, rng.uniform(2.0, 7.0), softness)
    levels = -contrast * rng.uniform(25, 90) * dark
    flank = np.roll(dark, (int(rng.integers(-3, 4)), int(rng.integers(2, 4))), axis=(0, 1))
    return [Patch.anywhere(rng, (levels + contrast * rng.uniform(4, 26) * flank).astype(np.float32))]


def scratches(rng: np.random.Generator, contrast: float, softness: float) -> list[Patch]:
    """One to three thin, straight or slightly bent lines, bright or dark, sometimes broken, near one direction."""
    heading = rng.normal(np.pi / 2, 0.35) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    return [_scratch(rng, contrast, softness, heading + rng.normal(0, 0.06)) for _ in range(1 + rng.binomial(2, 0.25))]


DRAW: dict[str, Callable[[np.random.Generator, float, float], list[Patch]]] = {
    "bubble": bubbles,
    "crack": cracks,
    "scratch": scratches,
    "inclusion": inclusions,
}


def _bubble(rng: np.random.Generator, contrast: float, softness: float) -> Patch:
    minor = float(np.clip(rng.lognormal(3.1, 0.45), 8, 80))
    major = minor * rng.uniform(1.0, 1.9)
    half = int(1.5 * major + 4 * softness) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    tilt = rng.normal(0, 0.25)
    along, across = y * np.cos(tilt) + x * np.sin(tilt), x * np.cos(tilt) - y * np.sin(tilt)
    reach = np.hypot(along / major, across / minor)
    rim_width = np.hypot(rng.uniform(0.10, 0.24), softness / minor)
    light = rng.uniform(0, 2 * np.pi)
    lit = 0.5 + 0.5 * np.cos(np.arctan2(y, x) - light)
    rim = np.exp(-0.5 * ((reach - 1) / rim_width) ** 2)
    glow = np.exp(-0.5 * ((reach - 0.68) / (1.2 * rim_width)) ** 2) * lit
    core = rng.uniform(-4, 12) * (reach < 0.8)
    levels = contrast * (-rng.uniform(16, 75) * rim + rng.uniform(10, 65) * glow + core)
    return Patch.anywhere(rng, levels.astype(np.float32))


def _scratch(rng: np.random.Generator, contrast: float, softness: float, heading: float) -> Patch:
    length = rng.uniform(250, 1000)
    along = np.linspace(-0.5, 0.5, 24) * length
    sag = rng.normal(0, 0.03) * length * (1 - (2 * along / length) ** 2)
    points = np.stack(
        [along * np.cos(heading) - sag * np.sin(heading), along * np.sin(heading) + sag * np.cos(heading)]
    )
    parts = np.array_split(points.T, 1 + rng.binomial(3, 0.25))
    levels = contrast * rng.uniform(12, 48) * rng.choice((-0.8, 1.0, 1.0))
    stroke = _stroke(parts, rng.uniform(1.6, 5.0), softness)
    return Patch.anywhere(rng, (levels * stroke).astype(np.float32))


def _walk(rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float) -> NDArray[np.float64]:
    """Corners [n, 2] of a jagged path that keeps its heading roughly."""
    steps = rng.uniform(12, 45, max(2, int(length / 28)))
    turns = heading + np.cumsum(rng.normal(0, 0.18, len(steps))) + rng.normal(0, 0.5, len(steps))
    legs = np.stack([steps * np.cos(turns), steps * np.sin(turns)], axis=1)
    return np.concatenate([start[None], start + np.cumsum(legs, axis=0)])


def _stroke(lines: list[NDArray[np.float64]], width: float, softness: float) -> NDArray[np.float32]:
    """Coverage 0-1 of soft lines, float32, just large enough to hold them."""
    low = np.min([line.min(axis=0) for line in lines], axis=0) - MARGIN
    size = np.ceil(np.max([line.max(axis=0) for line in lines], axis=0) + MARGIN - low).astype(int)
    sheet = Image.new("L", [int(LINE_SCALE * edge) for edge in size])
    pen = ImageDraw.Draw(sheet)
    for line in lines:
        corners = [tuple(LINE_SCALE * (point - low)) for point in line]
        pen.line(corners, fill=255, width=max(1, round(LINE_SCALE * width)), joint="curve")
    small = sheet.resize((int(size[0]), int(size[1])), Image.Resampling.BOX)
    return np.asarray(small.filter(ImageFilter.GaussianBlur(0.6 * softness)), np.float32) / 255.0
