"""The pipeline in bulk for each kind of model, and that it says what the live one says through a real model."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from inference.job import Dataset, RowSettings
from inference.job_runner.predict_stage import PredictStage
from inference.model import ImageInput, ModelSpec, Output, Signature
from inference.pipeline.build import build_pipeline
from inference.pipeline.bulk import BulkInput, BulkOutput
from inference.pipeline.bulk_build import build_bulk
from inference.pipeline.bulk_images import BulkImages
from inference.pipeline.bulk_output import BulkBinary, BulkClasses
from inference.pipeline.bulk_tensor_output import BulkPlain
from inference.pipeline.bulk_tensors import BulkTensors
from inference.pipeline.bulk_windows import BulkWindows
from inference.pipeline.sample import Sample
from inference.pipeline.window import as_time
from inference.runtime.function_session import FunctionSession
from inference.settings import LinesSettings, Settings
from inference.tensor import Tensors, TensorSpec
from tests.inference.pipeline.line_tables import plant_row, table_of
from tests.inference.pipeline.plant import NAMES, OUTPUT, WINDOW

DATASET = Dataset(("t",), "parquet")
WINDOWS = Signature((TensorSpec("rows", "FP32", ("b", 4, 3)),), (TensorSpec(OUTPUT.name, "FP32", ("b", 1)),))
CLASSES = Output("p", "classes", ("a", "b"))


def build(spec: ModelSpec, signature: Signature = WINDOWS) -> tuple[BulkInput, BulkOutput]:
    return build_bulk(spec, signature, DATASET, RowSettings(), LinesSettings())


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        (ModelSpec(sensor_window=WINDOW, output=OUTPUT), (BulkWindows, BulkBinary)),
        (ModelSpec(image=ImageInput("pixels", 8, 8), output=CLASSES), (BulkImages, BulkClasses)),
        (ModelSpec(), (BulkTensors, BulkPlain)),
        (ModelSpec(output=OUTPUT), (BulkTensors, BulkBinary)),
    ],
)
def test_a_model_gets_what_its_package_declares(spec: ModelSpec, kinds: tuple[type, type]) -> None:
    assert tuple(map(type, build(spec))) == kinds


def predict(inputs: Tensors) -> Tensors:
    """A probability that depends on all rows of a window, and on no neighbour."""
    weights = np.linspace(0.2, 1, 12, dtype=np.float32).reshape(4, 3)
    return {OUTPUT.name: (np.sin((inputs["rows"] * weights).sum(axis=(1, 2), keepdims=True))[:, 0] + 1) / 2}


def test_a_table_is_answered_as_the_live_path_answers_its_rows() -> None:
    random = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for number in range(400):
        temperature = None if random.random() < 0.1 else float(random.uniform(1390, 1700))
        line = None if random.random() < 0.1 else f"L{random.integers(3)}"
        rows.append(plant_row(line, 1000 * number, temperature))
    spec = ModelSpec(sensor_window=WINDOW, output=OUTPUT)
    inputs, outputs = build(spec)
    table = table_of(rows)
    assert inputs.problems(table.schema) == []
    inputs.begin(b"")
    stage = PredictStage("m/1", FunctionSession(WINDOWS, predict), 16, {}, batched=True)
    written = []
    for block in table.to_batches(max_chunksize=150):
        prepared = inputs.prepare(block.select(list(inputs.columns)), ())
        predicted = stage.run(prepared, threading.Event())
        kept = block.select(["stream_id"])
        written += outputs.rows(kept, len(written), prepared, predicted.outputs, predicted.failed)[0].to_pylist()

    live = build_pipeline(spec, WINDOWS, Settings())
    failed = 0
    for number, (row, given) in enumerate(zip(written, rows, strict=True)):
        fields = {**{name: given[name] for name in NAMES}, "timestamp": as_time(given["timestamp"])}
        assert (row["row"], row["stream_id"]) == (number, given["stream_id"])
        if row["error"] is not None:
            failed += 1
            with pytest.raises(Exception, match="Invalid values"):
                live.prepare(Sample(fields, None, given["stream_id"]))
            continue
        prepared_row = live.prepare(Sample(fields, None, given["stream_id"]))
        result = live.result(predict(prepared_row.tensors), prepared_row, 0.0)
        assert row["defect_probability"] == pytest.approx(result.defect_probability, abs=1e-6)  # type: ignore[union-attr] - a binary output
        assert row["confidence"] == pytest.approx(result.confidence, abs=2e-6)  # type: ignore[union-attr] - as above
        assert row["decision"] == result.decision  # type: ignore[union-attr] - as above
    assert 5 < failed < 100
    assert pa.Table.from_pylist(written).num_rows == 400
