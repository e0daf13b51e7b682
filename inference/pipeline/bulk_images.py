"""From files of pictures to tensors, a block at a time, by the same code that reads a live picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from inference.errors import InferenceError
from inference.job import Dataset, RowSettings
from inference.model import ImageInput
from inference.pipeline import bulk_columns
from inference.pipeline.bulk import IMAGE_FILE
from inference.pipeline.image import PictureInput
from inference.pipeline.sample import Sample
from inference.settings import ImagesSettings
from inference.shard import RowFault
from inference.tensor import Array, Tensors

IMAGE = "image"
CONTENT_TYPES = "bytes of image files, or text in base64"


@dataclass(slots=True, frozen=True, eq=False)
class PictureRows:
    """Pictures of a block: `pixels` UINT8 [len(good), height, width, 3]. See PreparedRows."""

    good: Array
    faults: Sequence[RowFault]
    input: str
    pixels: Array
    real_rows: None = None
    input_quality: None = None

    def tensors(self, start: int, stop: int) -> Tensors:
        """See PreparedRows."""
        return {self.input: self.pixels[start:stop]}


class BulkImages:
    """Decodes and resizes pictures, `decoders` at a time; see BulkInput.

    A source of pictures gives their bytes as IMAGE_FILE; a table has them in the column `image`, as bytes or as the
    text that the live path takes. A row depends on no other, so nothing is carried.
    """

    def __init__(self, spec: ImageInput, dataset: Dataset, rows: RowSettings, *, decoders: int = 1) -> None:
        self._spec = spec
        self._columns = dataset.columns
        of_pictures = dataset.format in ("images", "urls")
        self._column = IMAGE_FILE if of_pictures else dataset.columns.get(IMAGE, IMAGE)
        limits = ImagesSettings(bytes_max=rows.image_bytes_max, pixels_max=rows.image_pixels_max)
        self._input = PictureInput(spec, limits)
        self._decoders = decoders
        self._pool: ThreadPoolExecutor | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """See BulkInput."""
        return (self._column,)

    def problems(self, schema: pa.Schema) -> list[str]:
        """See BulkInput."""
        problems = bulk_columns.unknown_columns(self._columns, [IMAGE])
        if self._column not in schema.names:
            return [*problems, bulk_columns.missing(self._column, IMAGE, schema)]
        kind = schema.field(self._column).type
        if not (bulk_columns.is_bytes(kind) or bulk_columns.is_text(kind) or pa.types.is_null(kind)):
            problems.append(bulk_columns.wrong_type(self._column, kind, CONTENT_TYPES))
        return problems

    def begin(self, carry: bytes) -> None:
        """See BulkInput."""
        assert not carry, "pictures carry nothing"

    def carry(self) -> bytes:
        """See BulkInput."""
        return b""

    def prepare(self, columns: pa.RecordBatch, faults: Sequence[RowFault]) -> PictureRows:
        """See BulkInput."""
        unread = {fault.row for fault in faults}
        rows = [row for row in range(columns.num_rows) if row not in unread]
        files = columns.column(self._column)
        pixels = np.empty((len(rows), self._spec.height, self._spec.width, 3), np.uint8)

        def decode(place: int) -> RowFault | None:
            return self._decode(files, rows[place], pixels[place])

        if self._decoders > 1 and len(rows) > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._decoders, "decode")
            decoded = list(self._pool.map(decode, range(len(rows))))
        else:
            decoded = [decode(place) for place in range(len(rows))]
        good = np.array(rows, np.int64)
        found = [fault for fault in decoded if fault is not None]
        if found:
            kept = np.array([fault is None for fault in decoded])
            good, pixels = good[kept], pixels[kept]
        all_faults = sorted([*faults, *found], key=lambda fault: fault.row)
        return PictureRows(good, all_faults, self._spec.input, pixels)

    def _decode(self, files: pa.Array, row: int, pixels: Array) -> RowFault | None:
        content = files[row].as_py()
        try:
            sample = Sample({}, content) if isinstance(content, bytes) else Sample({IMAGE: content})
            pixels[:] = self._input.prepare(sample).tensors[self._spec.input][0]
        except InferenceError as error:
            return RowFault(row, error.reason, str(error))
        return None
