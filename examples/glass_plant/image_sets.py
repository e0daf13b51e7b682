"""Labelled pictures for training, calibration and judging, made at one megapixel and kept at the model's size."""

from __future__ import annotations

import io
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.glass_plant.glass import Campaign, colour, render_grey
from examples.glass_plant.line import DEFECT_TYPES
from examples.glass_plant.pixels import load_pixels, shrink
from examples.glass_plant.simulate import JPEG_QUALITY

SIDE = 128


# For the worker processes: one thread each, and large buffers are kept instead of mapped and zeroed per picture.
WORKER_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "PILLOW_BLOCKS_MAX": "64",
}


@dataclass(frozen=True)
class ImageSet:
    """`pixels` uint8 [n, 128, 128, 3]; `label` int64 [n], index into DEFECT_TYPES; `campaign` int64 [n]."""

    pixels: NDArray[np.uint8]
    label: NDArray[np.int64]
    campaign: NDArray[np.int64]


@dataclass(frozen=True)
class SetPlan:
    """How one split is made: campaigns are numbered from `seed` on, so splits that lie apart share none."""

    seed: int
    campaigns: int
    each: int
    jpeg_share: float  # the rest is shrunk without encoding, which costs a third of the time

    @property
    def file_name(self) -> str:
        """Name of the cached split."""
        return f"images-{self.seed}-{self.campaigns}x{self.each}-jpeg{self.jpeg_share:.2f}.npz"


def make_images(plan: SetPlan, workers: int, cache: Path | None) -> ImageSet:
    """Simulate a split, or take it from `cache` (a folder) where an equal one lies."""
    if cache is not None and (cache / plan.file_name).exists():
        with np.load(cache / plan.file_name) as stored:
            return ImageSet(stored["pixels"], stored["label"], stored["campaign"])
    tasks = [(plan, plan.seed + index) for index in range(plan.campaigns)]
    os.environ.update({name: value for name, value in WORKER_ENVIRONMENT.items() if name not in os.environ})
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        parts = pool.map(_campaign_images, tasks, chunksize=1)
    pixels, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    made = ImageSet(pixels, labels, np.repeat(np.arange(plan.campaigns), plan.each))
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(cache / plan.file_name, pixels=made.pixels, label=made.label, campaign=made.campaign)
    return made


def _campaign_images(task: tuple[SetPlan, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All pictures of one campaign, the classes in turn."""
    plan, seed = task
    campaign = Campaign.draw(seed)
    pixels = np.empty((plan.each, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(plan.each) % len(DEFECT_TYPES)
    for index in range(plan.each):
        rng = np.random.default_rng([seed, index])
        encoded = rng.random() < plan.jpeg_share
        picture = colour(render_grey(campaign, DEFECT_TYPES[labels[index]], rng), campaign)
        if encoded:
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=JPEG_QUALITY)
            pixels[index] = load_pixels(stream.getvalue(), SIDE, SIDE)
        else:
            pixels[index] = shrink(picture, SIDE, SIDE)
    return pixels, labels.astype(np.int64)
