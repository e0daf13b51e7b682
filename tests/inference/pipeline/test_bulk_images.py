"""Pictures in bulk are decoded, refused and resized as live ones are."""

from __future__ import annotations

import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from inference.job import Dataset, RowSettings
from inference.model import ImageInput
from inference.pipeline.bulk import IMAGE_FILE
from inference.pipeline.bulk_images import BulkImages
from inference.pipeline.image import load_pixels
from inference.settings import ImagesSettings
from inference.shard import RowFault

SPEC = ImageInput("pixels", 16, 12)
PICTURES = Dataset(("images/",), "images")
TABLE = Dataset(("t.parquet",), "parquet", {"image": "photo"})


def picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def batch(files: list[object], name: str = IMAGE_FILE, kind: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(files, kind or pa.binary())], [name])


@pytest.mark.parametrize("decoders", [1, 3])
def test_every_picture_is_decoded_as_a_live_one_and_a_bad_one_fails_alone(decoders: int) -> None:
    files = [picture(1), b"GIF89a", picture(2, "PNG"), None, picture(3)[:200], picture(4)]
    bulk = BulkImages(SPEC, PICTURES, RowSettings(), decoders=decoders)
    bulk.begin(b"")
    prepared = bulk.prepare(batch(files), [RowFault(3, "not_found", "a.jpg is gone")])
    assert prepared.good.tolist() == [0, 2, 5]
    for place, row in enumerate(prepared.good.tolist()):
        live = load_pixels(files[row], SPEC, ImagesSettings())  # type: ignore[arg-type] - bytes, by the choice above
        assert np.array_equal(prepared.tensors(place, place + 1)["pixels"], live[None])
    assert [(fault.row, fault.reason) for fault in prepared.faults] == [
        (1, "unsupported_media_type"),
        (3, "not_found"),
        (4, "invalid_image"),
    ]
    assert bulk.carry() == b""


@pytest.mark.parametrize("limit", [{"image_bytes_max": 100}, {"image_pixels_max": 1999}])
def test_the_jobs_own_limits_hold_before_anything_is_decoded(limit: dict[str, int]) -> None:
    prepared = BulkImages(SPEC, PICTURES, RowSettings(**limit)).prepare(batch([picture(1)]), ())
    assert [fault.reason for fault in prepared.faults] == ["too_large"]
    assert prepared.tensors(0, 0)["pixels"].shape == (0, 12, 16, 3)


def test_a_table_may_hold_files_or_their_base64() -> None:
    files = [picture(1), picture(2)]
    texts = [base64.b64encode(file).decode() for file in files]
    bulk = BulkImages(SPEC, TABLE, RowSettings())
    assert bulk.columns == ("photo",)
    of_bytes = bulk.prepare(batch(files, "photo"), ())
    of_text = bulk.prepare(batch([*texts, "no base64", None], "photo", pa.string()), ())
    assert np.array_equal(of_bytes.tensors(0, 2)["pixels"], of_text.tensors(0, 2)["pixels"])
    assert [(fault.row, fault.reason) for fault in of_text.faults] == [(2, "invalid_values"), (3, "invalid_values")]


def test_what_is_wrong_with_the_columns_is_told() -> None:
    bulk = BulkImages(SPEC, Dataset(("t",), "parquet", {"image": "photo", "imge": "x"}), RowSettings())
    problems = bulk.problems(pa.schema([("phot", pa.binary())]))
    assert [problem.split(":")[0] for problem in problems] == ["--column imge=x", "column 'photo' is missing"]
    assert "accepted bytes of image files" in bulk.problems(pa.schema([("photo", pa.int8())]))[1]
    assert BulkImages(SPEC, PICTURES, RowSettings()).problems(pa.schema([(IMAGE_FILE, pa.binary())])) == []
