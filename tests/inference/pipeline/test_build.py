"""A package's spec chooses its pipeline, and a pipeline is used without asking for the task."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from inference.model import ImageInput, ModelSpec, Output, Signature
from inference.pipeline.build import build_pipeline
from inference.pipeline.sample import Sample
from inference.protocols.inference_json import DefectProbability, DefectType
from inference.settings import Settings
from inference.tensor import TensorSpec
from tests.inference.pipeline.plant import OUTPUT, WINDOW, row

SIGNATURE = Signature((TensorSpec("x", "FP32", (None,)),), (TensorSpec("y", "FP32", (None,)),))


def test_rows_of_sensors_give_a_probability() -> None:
    pipeline = build_pipeline(ModelSpec(sensor_window=WINDOW, output=OUTPUT), SIGNATURE, Settings())
    prepared = pipeline.prepare(Sample(row()))
    assert not pipeline.blocking
    assert prepared.tensors["rows"].shape == (1, 4, 3)
    result = pipeline.result({"defect_probability": np.array([[0.5]], np.float32)}, prepared, 0.001)
    assert isinstance(result, DefectProbability)


def test_pictures_give_a_class_and_are_decoded_off_the_loop() -> None:
    spec = ModelSpec(image=ImageInput("pixels", 4, 4), output=Output("p", "classes", ("none", "crack")))
    pipeline = build_pipeline(spec, SIGNATURE, Settings())
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    prepared = pipeline.prepare(Sample({}, buffer.getvalue()))
    assert pipeline.blocking
    assert prepared.tensors["pixels"].tolist() == [[[[255, 0, 0]] * 4] * 4]
    assert isinstance(pipeline.result({"p": np.array([[0.2, 0.8]])}, prepared, 0.001), DefectType)


def test_a_bare_file_takes_and_gives_its_tensors() -> None:
    pipeline = build_pipeline(ModelSpec(), SIGNATURE, Settings())
    prepared = pipeline.prepare(Sample({"x": [1, 2]}))
    assert pipeline.result({"y": prepared.tensors["x"]}, prepared, 0.001) == {"y": [1, 2]}


@pytest.mark.parametrize("extra", [0, 3])
def test_the_settings_say_how_many_rows_a_line_keeps(extra: int) -> None:
    from inference.errors import RowTooLate
    from inference.settings import LinesSettings

    settings = Settings(lines=LinesSettings(rows_held_extra=extra))
    pipeline = build_pipeline(ModelSpec(sensor_window=WINDOW, output=OUTPUT), SIGNATURE, settings)
    for minute in range(10):
        pipeline.prepare(Sample(row(timestamp=f"2025-12-05T10:{minute:02}:00Z"), None, "L1"))
    in_time = 10 - extra  # of ten rows the newest `4 + extra` are held, and three before a late row are needed
    if extra:
        pipeline.prepare(Sample(row(timestamp=f"2025-12-05T10:{in_time - 1:02}:30Z"), None, "L1"))
    with pytest.raises(RowTooLate):
        pipeline.prepare(Sample(row(timestamp="2025-12-05T10:05:30Z"), None, "L1"))
