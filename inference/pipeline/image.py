"""From an image file to the tensor of a model that judges one picture.

What a pixel is, here and where the models are trained: decode; a JPEG is decoded at the smallest scale (1, 1/2, 1/4 or
1/8) that still has twice the model's width and height; convert to RGB; resize to the model's width and height. An
orientation tag (EXIF) is not applied: cameras over a line are mounted, and training saw the file's own rows.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from inference.errors import InferenceError, InvalidImage, InvalidValues, TooLarge, UnknownField, UnsupportedMedia
from inference.fault import Fault, quoted
from inference.model import ImageInput
from inference.pipeline.sample import Prepared, Sample, wrong_input
from inference.settings import ImagesSettings
from inference.tensor import Array, Tensors

if TYPE_CHECKING:
    from PIL.Image import Image

MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
MODES_READ = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 16-bit greys would be clipped, not scaled
BASE64_ACCEPTED = "a JPEG or PNG file as base64 text, without a data: prefix"


def format_of(image_file: bytes) -> str | None:
    """ "jpeg" or "png" by the first bytes, None for anything else."""
    for name, magic in MAGIC.items():
        if image_file.startswith(magic):
            return name
    return None


def load_pixels(image_file: bytes, spec: ImageInput, limits: ImagesSettings) -> Array:
    """The picture as UINT8 [height, width, 3] in RGB, with the size that the model takes.

    Nothing is decoded before its bytes, its format and its pixels (as its header tells them) are within `limits`.
    Raises TooLarge, UnsupportedMedia, InvalidImage.
    """
    if len(image_file) > limits.bytes_max:
        raise TooLarge("image", f"{len(image_file)} bytes", f"at most {limits.bytes_max} bytes")
    name = format_of(image_file)
    if name is None or name not in limits.formats:
        given = name or f"a file that begins with {image_file[:8].hex(' ') or 'nothing'}"
        raise UnsupportedMedia("image", given, limits.formats)
    from PIL import Image

    try:
        with Image.open(io.BytesIO(image_file), formats=(name,)) as picture:
            _check_header(picture, limits)
            if name == "jpeg":
                picture.draft("RGB", (2 * spec.width, 2 * spec.height))
            return _resized(picture, spec)
    except (InferenceError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge("image", "a decompression bomb", f"at most {limits.pixels_max} pixels") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise what they like on bytes that only begin like an image
        raise InvalidImage(f"{type(error).__name__}: {error}"[:200], limits.formats) from None


def fit_pixels(pixels: Array, spec: ImageInput) -> Array:
    """A picture that is decoded already, UINT8 [h, w, 3] in RGB, with the size that the model takes."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InvalidValues([Fault("image", f"{pixels.dtype} {list(pixels.shape)}", "uint8 [height, width, 3]")])
    if pixels.shape[:2] == (spec.height, spec.width):
        return pixels
    from PIL import Image

    return _resized(Image.fromarray(pixels), spec)


def _check_header(picture: Image, limits: ImagesSettings) -> None:
    width, height = picture.size
    if width * height > limits.pixels_max:
        raise TooLarge("image", f"{width} x {height} pixels", f"at most {limits.pixels_max} pixels")
    if picture.mode not in MODES_READ:
        raise InvalidImage(f"its pixels are of mode {picture.mode}; 8 bits a channel are read", limits.formats)


def _resized(picture: Image, spec: ImageInput) -> Array:
    from PIL import Image

    resample = Image.Resampling[spec.resample.upper()]
    small = picture.convert("RGB").resize((spec.width, spec.height), resample=resample, reducing_gap=None)
    return np.asarray(small, np.uint8)


class PictureInput:
    """Decodes pictures for one model. Holds nothing between calls, so any thread may use it."""

    blocking = True

    def __init__(self, spec: ImageInput, limits: ImagesSettings) -> None:
        self._spec = spec
        self._limits = limits

    def prepare(self, sample: Sample) -> Prepared:
        """The picture's tensor, UINT8 [1, height, width, 3].

        Raises UnknownField, InvalidValues, TooLarge, UnsupportedMedia, InvalidImage.
        """
        if sample.stream_id is not None:
            raise UnknownField("", ["stream_id"], ["model_name", "model_version", "data"])
        image_file = sample.image_file
        if image_file is None:
            image_file = self._from_base64(sample)
        return Prepared({self._spec.input: load_pixels(image_file, self._spec, self._limits)[None]})

    def prepare_one(self, given: object) -> Prepared:
        """One picture: the bytes of an image file, or UINT8 [height, width, 3] in RGB of any size."""
        return Prepared({self._spec.input: self._pixels(given)[None]})

    def prepare_many(self, given: object) -> Tensors:
        """Pictures: UINT8 [n, height, width, 3], or a sequence of what `prepare_one` takes."""
        whole = (self._spec.height, self._spec.width, 3)
        if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.shape[1:] == whole:
            return {self._spec.input: given}
        if not isinstance(given, (np.ndarray, Sequence)) or isinstance(given, (bytes, str)):
            raise wrong_input(given, "uint8 [n, height, width, 3], or a sequence of image files")
        pictures = [self._pixels(picture) for picture in given]
        return {self._spec.input: np.stack(pictures) if pictures else np.empty((0, *whole), np.uint8)}

    def _pixels(self, given: object) -> Array:
        if isinstance(given, bytes):
            return load_pixels(given, self._spec, self._limits)
        if isinstance(given, np.ndarray):
            return fit_pixels(given, self._spec)
        raise wrong_input(given, "the bytes of an image file, or uint8 [height, width, 3]")

    def _from_base64(self, sample: Sample) -> bytes:
        unknown = [name for name in sample.fields if name != "image"]
        if unknown:
            raise UnknownField("data", unknown, ["image"])
        text = sample.fields.get("image")
        if not isinstance(text, str):
            given = "nothing" if text is None else quoted(text)
            raise InvalidValues([Fault("data.image", given, BASE64_ACCEPTED)])
        if len(text) > (self._limits.bytes_max + 2) // 3 * 4:
            raise TooLarge("image", f"{len(text)} characters of base64", f"at most {self._limits.bytes_max} bytes")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidValues([Fault("data.image", quoted(text[:40]), BASE64_ACCEPTED)]) from None
