"""Image files become pixels, within bounds; whatever else comes is refused by name."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from examples.glass_plant.pixels import load_pixels as pixels_in_training
from inference.errors import CallerError, InvalidImage, InvalidValues, TooLarge, UnknownField, UnsupportedMedia
from inference.model import ImageInput
from inference.pipeline.image import PictureInput, fit_pixels, load_pixels
from inference.pipeline.sample import Sample
from inference.settings import ImagesSettings

SPEC = ImageInput("pixels", width=32, height=16)
LIMITS = ImagesSettings()
INPUTS = PictureInput(SPEC, LIMITS)


def picture(width: int = 320, height: int = 160, mode: str = "RGB") -> Image.Image:
    """A gradient from left to right in red, from top to bottom in green."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    rgb = np.stack([x, y, np.full_like(x, 60)], axis=2).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


PNG = encoded(picture(), "PNG")
JPEG = encoded(picture(), "JPEG", quality=90)


def test_a_png_is_resized_as_pillow_does() -> None:
    expected = np.asarray(picture().resize((32, 16), Image.Resampling.BOX))
    pixels = load_pixels(PNG, SPEC, LIMITS)
    assert pixels.shape == (16, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_a_jpeg_is_decoded_at_a_smaller_scale_by_the_same_definition_as_in_training() -> None:
    with Image.open(io.BytesIO(JPEG)) as image:
        image.draft("RGB", (64, 32))
        assert image.size == (80, 40)
        expected = np.asarray(image.convert("RGB").resize((32, 16), Image.Resampling.BOX, reducing_gap=None))
    assert (load_pixels(JPEG, SPEC, LIMITS) == expected).all()


def test_the_models_are_trained_on_the_same_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    for image_file in (encoded(Image.fromarray(noise), "JPEG"), encoded(Image.fromarray(noise), "PNG"), JPEG, PNG):
        assert (load_pixels(image_file, SPEC, LIMITS) == pixels_in_training(image_file, 32, 16)).all()


@pytest.mark.parametrize("resample", ["box", "bilinear", "bicubic", "lanczos"])
def test_the_model_chooses_the_filter(resample: Any) -> None:
    expected = np.asarray(picture().resize((32, 16), Image.Resampling[resample.upper()]))
    assert (load_pixels(PNG, ImageInput("pixels", 32, 16, resample=resample), LIMITS) == expected).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_colours_become_rgb(mode: str) -> None:
    assert load_pixels(encoded(picture(mode=mode), "PNG"), SPEC, LIMITS).shape == (16, 32, 3)


def test_an_orientation_tag_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(), "JPEG", quality=90, exif=exif)
    assert (load_pixels(turned, SPEC, LIMITS) == load_pixels(JPEG, SPEC, LIMITS)).all()


def test_sixteen_bit_greys_are_refused_rather_than_clipped() -> None:
    deep = encoded(Image.fromarray(np.full((16, 32), 40_000, np.uint16)), "PNG")
    with pytest.raises(InvalidImage, match="8 bits a channel"):
        load_pixels(deep, SPEC, LIMITS)


@pytest.mark.parametrize("image_file", [JPEG, PNG], ids=["jpeg", "png"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(image_file: bytes, share: float) -> None:
    with pytest.raises(InvalidImage):
        load_pixels(image_file[: int(len(image_file) * share)], SPEC, LIMITS)


@settings(max_examples=150)
@given(
    st.sampled_from([JPEG, PNG]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_are_decoded_or_refused(image_file: bytes, damage: list[tuple[float, int]]) -> None:
    damaged = bytearray(image_file)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    try:
        pixels = load_pixels(bytes(damaged), SPEC, LIMITS)
    except CallerError:
        return
    assert pixels.shape == (16, 32, 3)


@pytest.mark.parametrize("image_file", [b"", b"GIF89a....", b"BM", b"<svg/>", encoded(picture(), "TIFF")[:4000]])
def test_other_formats_are_not_read(image_file: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="jpeg or png"):
        load_pixels(image_file, SPEC, LIMITS)


def test_a_format_that_is_switched_off_is_not_read() -> None:
    with pytest.raises(UnsupportedMedia, match="accepted jpeg"):
        load_pixels(PNG, SPEC, ImagesSettings(formats=("jpeg",)))


def test_a_file_above_its_limit_is_not_opened() -> None:
    with pytest.raises(TooLarge, match="at most 100 bytes"):
        load_pixels(PNG, SPEC, ImagesSettings(bytes_max=100))


def huge_png(side: int) -> bytes:
    """A PNG of a few bytes whose header claims `side` x `side` pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize("side", [6_000, 9_999, 60_000], ids=["above", "pillow-warns", "pillow-refuses"])
def test_a_picture_with_too_many_pixels_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(TooLarge, match="at most 25000000 pixels"):
        load_pixels(huge_png(side), SPEC, LIMITS)


def test_a_file_may_come_as_it_is_or_as_base64() -> None:
    text = base64.b64encode(PNG).decode()
    raw, encoded_file = INPUTS.prepare(Sample({}, PNG)), INPUTS.prepare(Sample({"image": text}))
    assert (raw.tensors["pixels"] == encoded_file.tensors["pixels"]).all()
    assert raw.tensors["pixels"].shape == (1, 16, 32, 3)


@pytest.mark.parametrize("given", [None, 5, ["x"], "not base64!", "data:image/png;base64,aaaa", "aaa", "ä"])
def test_what_is_no_base64_is_named(given: object) -> None:
    with pytest.raises(InvalidValues) as caught:
        INPUTS.prepare(Sample({"image": given}))
    assert caught.value.details[0].field == "data.image"


def test_fields_that_an_image_model_does_not_read_are_refused() -> None:
    with pytest.raises(UnknownField):
        INPUTS.prepare(Sample({"image": "aaaa", "quality": 1}))
    with pytest.raises(UnknownField):
        INPUTS.prepare(Sample({}, PNG, stream_id="L1"))


def test_base64_above_the_limit_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        PictureInput(SPEC, ImagesSettings(bytes_max=3)).prepare(Sample({"image": "aaaaaaaa"}))


def test_pictures_of_this_process_are_files_or_arrays_of_any_size() -> None:
    array = np.asarray(picture())
    assert (INPUTS.prepare_one(array).tensors["pixels"] == INPUTS.prepare_one(PNG).tensors["pixels"]).all()
    small = fit_pixels(array, SPEC)
    assert fit_pixels(small, SPEC) is small
    many = INPUTS.prepare_many([PNG, array, small])["pixels"]
    assert many.shape == (3, 16, 32, 3)
    assert (many == many[0]).all()
    assert INPUTS.prepare_many(many)["pixels"] is many


@pytest.mark.parametrize(
    "given", [None, "file.png", np.zeros((16, 32)), np.zeros((16, 32, 3)), np.zeros((0, 9, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(InvalidValues):
        INPUTS.prepare_one(given)


@pytest.mark.parametrize("given", [PNG, 5, [5]])
def test_what_are_no_pictures_is_refused(given: object) -> None:
    with pytest.raises(InvalidValues):
        INPUTS.prepare_many(given)
