"""From an encoded picture to the pixels that the image model reads."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def load_pixels(image_bytes: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes to uint8 [height, width, 3], RGB, 0-255.

    `inference/pipeline/image.py` does exactly the same when it serves: a JPEG is decoded at the smallest of its DCT
    scales that is still at least twice the target, and the mean of each box of pixels makes a pixel. The model is
    trained and judged on pictures that came through here.
    """
    image = Image.open(io.BytesIO(image_bytes))
    if image.format == "JPEG":
        image.draft("RGB", (2 * width, 2 * height))
    return shrink(image.convert("RGB"), width, height)


def shrink(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The last step alone, for pictures that were never encoded."""
    small = image.resize((width, height), resample=Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small, dtype=np.uint8)
