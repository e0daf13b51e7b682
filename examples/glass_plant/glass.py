"""Simulated pictures of glass under a line-scan camera: the light, the glass and what lies on it, one megapixel each.

Grey levels are 0-255; x runs across the ribbon, y along it. Defects are drawn by `defects.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.glass_plant.defects import DRAW, Patch
from examples.glass_plant.line import DEFECT_TYPES

SIDE = 1024  # pixels; 0.1 mm of glass each
NOISE_SIDE = SIDE + 512
FIELD_SIDE = 12  # nodes of the slow light field

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Campaign:
    """What stays the same while one camera watches one glass: splits never share a campaign."""

    level: float  # grey level of clear glass
    gradient: float  # grey levels that the light falls off over the picture
    noise: float  # standard deviation of the sensor noise, grey levels
    stripes: float  # standard deviation of the column gain, grey levels
    ream: float  # amplitude of the streaks that drawing leaves in the glass, grey levels
    softness: float  # pixels of optical blur
    dust: float  # mean count of dust grains, which are no defect
    contrast: float  # how strongly this light shows a defect
    tint: tuple[float, float, float]  # gain of red, green and blue

    @staticmethod
    def draw(seed: int) -> Campaign:
        """The campaign of this seed."""
        rng = np.random.default_rng([seed, 77])
        green = rng.uniform(0.0, 0.06)
        return Campaign(
            level=rng.uniform(110, 190),
            gradient=rng.uniform(5, 45),
            noise=rng.uniform(4, 14),
            stripes=rng.uniform(0.5, 3.0),
            ream=rng.uniform(0.5, 5.0),
            softness=rng.uniform(0.6, 2.2),
            dust=rng.uniform(0.5, 4.0),
            contrast=rng.uniform(0.65, 1.2),
            tint=(1.0 - green, 1.0, 1.0 - green * rng.uniform(0.2, 0.9)),
        )


def render_grey(campaign: Campaign, kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture, uint8 [1024, 1024], of glass with a defect of this `kind` or none."""
    picture = _light(campaign, rng)
    _add_ream(picture, campaign, rng)
    _add_noise(picture, campaign, rng)
    for _ in range(rng.poisson(campaign.dust)):
        _add(picture, _dust(campaign, rng))
    if rng.random() < 0.3:
        _add(picture, _smear(rng))
    if kind != "none":
        for patch in DRAW[kind](rng, campaign.contrast, campaign.softness):
            _add(picture, patch)
    np.clip(picture, 0, 255, out=picture)
    return picture.astype(np.uint8)


def colour(grey: NDArray[np.uint8], campaign: Campaign) -> Image.Image:
    """The RGB picture: the glass tints the light."""
    plane = Image.fromarray(grey)
    return Image.merge("RGB", [plane.point([round(level * gain) for level in range(256)]) for gain in campaign.tint])


def picture_kind(rng: np.random.Generator) -> str:
    """A class, each as likely."""
    return DEFECT_TYPES[int(rng.integers(len(DEFECT_TYPES)))]


def _light(campaign: Campaign, rng: np.random.Generator) -> Grey:
    """Clear glass under uneven light."""
    field = rng.normal(0.0, campaign.gradient / 8, (FIELD_SIDE, FIELD_SIDE))
    slope = rng.uniform(-0.5, 0.5, 2) * campaign.gradient
    ramp = np.linspace(-1, 1, FIELD_SIDE)
    field = field + slope[0] * ramp[:, None] + slope[1] * ramp - 0.3 * campaign.gradient * ramp**2
    spread = _spread_matrix()
    return spread @ (field + campaign.level + rng.normal(0, 6)).astype(np.float32) @ spread.T


def _add_ream(picture: Grey, campaign: Campaign, rng: np.random.Generator) -> None:
    """Streaks along the ribbon, column gain of the camera and flicker of the lamp."""
    x = np.arange(SIDE) / SIDE
    streaks = sum(np.sin(2 * np.pi * (rate * x + rng.random())) / rate**0.5 for rate in rng.uniform(2, 40, 5))
    columns = campaign.ream * streaks + rng.normal(0, campaign.stripes, SIDE)
    rows = rng.normal(0, 0.8, SIDE)
    picture += columns.astype(np.float32)
    picture += rows.astype(np.float32)[:, None]


def _add_noise(picture: Grey, campaign: Campaign, rng: np.random.Generator) -> None:
    """Sensor noise: a random cut, flipped at random, of one large sheet that is drawn once."""
    top, left = rng.integers(0, NOISE_SIDE - SIDE, 2)
    flip_y, flip_x = (int(sign) for sign in rng.choice((-1, 1), 2))
    cut = _noise_sheet()[top : top + SIDE, left : left + SIDE][::flip_y, ::flip_x]
    picture += np.float32(campaign.noise) * cut


@functools.cache
def _spread_matrix() -> Grey:
    """Linear interpolation from the nodes of the light field to pixels, float32 [1024, 12]."""
    place = np.linspace(0, FIELD_SIDE - 1, SIDE)[:, None]
    return np.maximum(1 - np.abs(place - np.arange(FIELD_SIDE)), 0).astype(np.float32)


@functools.cache
def _noise_sheet() -> Grey:
    return np.random.default_rng(4).standard_normal((NOISE_SIDE, NOISE_SIDE), dtype=np.float32)


def _dust(campaign: Campaign, rng: np.random.Generator) -> Patch:
    """A grain or fibre on the glass: out of focus, faint, dark or bright."""
    radius = rng.uniform(2, 10)
    half = int(3 * radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shape = np.exp(-0.5 * ((along / radius) ** 2 + (across / (radius * rng.uniform(0.25, 1.0))) ** 2))
    depth = campaign.contrast * rng.uniform(5, 32) * rng.choice((-1, -1, -1, 1))
    return Patch.anywhere(rng, (depth * shape).astype(np.float32), SIDE)


def _smear(rng: np.random.Generator) -> Patch:
    """A wide faint mark of water or cleaning."""
    height, width = rng.integers(80, 500, 2)
    y, x = np.linspace(-2, 2, height)[:, None], np.linspace(-2, 2, width)
    wave = 1 + 0.5 * np.sin(rng.uniform(2, 9) * (x + rng.normal(0, 0.5) * y))
    shape = rng.uniform(-9, 9) * np.exp(-0.5 * (x**2 + y**2)) * wave
    return Patch.anywhere(rng, shape.astype(np.float32), SIDE)


def _add(picture: Grey, patch: Patch) -> None:
    """Add a patch, cut at the picture's edges."""
    height, width = patch.levels.shape
    top, left = max(patch.top, 0), max(patch.left, 0)
    bottom, right = min(patch.top + height, SIDE), min(patch.left + width, SIDE)
    if bottom > top and right > left:
        cut = patch.levels[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
        picture[top:bottom, left:right] += cut
