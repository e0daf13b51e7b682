"""Chooses how blocks of a dataset become tensors, and outputs columns; what `build` is for single samples."""

from __future__ import annotations

from inference.job import Dataset, RowSettings
from inference.model import ModelSpec, Signature
from inference.pipeline.bulk import BulkInput, BulkOutput
from inference.pipeline.bulk_images import BulkImages
from inference.pipeline.bulk_output import BulkBinary, BulkClasses
from inference.pipeline.bulk_tensor_output import BulkPlain
from inference.pipeline.bulk_tensors import BulkTensors
from inference.pipeline.bulk_windows import BulkWindows
from inference.settings import LinesSettings


def build_bulk(
    spec: ModelSpec,
    signature: Signature,
    dataset: Dataset,
    rows: RowSettings,
    lines: LinesSettings,
    *,
    decoders: int = 1,
) -> tuple[BulkInput, BulkOutput]:
    """Both halves for one model version and one dataset, for one worker. `decoders`: threads that decode pictures."""
    inputs: BulkInput
    if spec.sensor_window is not None:
        inputs = BulkWindows(spec.sensor_window, dataset, lines, unordered=rows.unordered)
    elif spec.image is not None:
        inputs = BulkImages(spec.image, dataset, rows, decoders=decoders)
    else:
        inputs = BulkTensors(signature, dataset)
    outputs: BulkOutput
    if spec.output is None:
        outputs = BulkPlain(signature)
    elif spec.output.kind == "binary":
        outputs = BulkBinary(spec.output)
    else:
        outputs = BulkClasses(spec.output)
    return inputs, outputs
