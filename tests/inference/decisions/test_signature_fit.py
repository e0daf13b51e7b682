"""Whether a declaration and an ONNX file mean the same tensors."""

from __future__ import annotations

import pytest

from inference.decisions.signature_fit import signature_problems
from inference.model import Feature, ImageInput, ModelSpec, Output, SensorWindow, Signature
from inference.tensor import Dim, TensorSpec

FEATURES = tuple(Feature(name, "unit", 0, 1) for name in "abc")
WINDOW = SensorWindow("rows", 32, FEATURES)
IMAGE = ImageInput("pixels", width=64, height=48)
BINARY = Output("probability", "binary", ("ok", "defect"))
CLASSES = Output("probabilities", "classes", ("none", "bubble", "crack"))


def tensor(name: str, *shape: Dim, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name, datatype, shape)


ROWS = tensor("rows", "batch", 32, 3)
PIXELS = tensor("pixels", "batch", 48, 64, 3, datatype="UINT8")
PROBABILITY = tensor("probability", "batch", 1)


def of_window(given: TensorSpec = ROWS, answer: TensorSpec = PROBABILITY) -> list[str]:
    return signature_problems(ModelSpec(sensor_window=WINDOW, output=BINARY), Signature((given,), (answer,)))


def of_image(given: TensorSpec = PIXELS, answer: TensorSpec | None = None) -> list[str]:
    answer = answer or tensor("probabilities", "batch", 3)
    return signature_problems(ModelSpec(image=IMAGE, output=CLASSES), Signature((given,), (answer,)))


def test_a_bare_model_declares_nothing_that_could_be_wrong() -> None:
    assert signature_problems(ModelSpec(), Signature((ROWS,), (PROBABILITY,))) == []


@pytest.mark.parametrize("shape", [("batch", 32, 3), ("batch", "rows", None), (1, 32, 3)])
def test_a_window_fits_its_tensor(shape: tuple[Dim, ...]) -> None:
    assert of_window(tensor("rows", *shape)) == []


@pytest.mark.parametrize("shape", [("batch", 1), ("batch",), ("batch", None)])
def test_a_probability_fits_its_tensor(shape: tuple[Dim, ...]) -> None:
    assert of_window(answer=tensor("probability", *shape)) == []


def test_a_picture_fits_its_tensor() -> None:
    assert of_image() == []


def test_an_open_rank_may_turn_out_right() -> None:
    assert of_window(TensorSpec("rows", "FP32", (), ranked=False)) == []
    assert of_window(answer=TensorSpec("probability", "FP32", (), ranked=False)) == []


def test_an_input_that_the_file_does_not_have_is_told_with_the_nearest() -> None:
    (problem,) = of_window(tensor("row", "batch", 32, 3))
    assert problem == "sensor_window.input: given 'rows', accepted 'row', it seems"
    (problem,) = of_image(tensor("image", "batch", 48, 64, 3, datatype="UINT8"))
    assert problem == "image.input: given 'pixels', accepted one of image"


def test_an_output_that_the_file_does_not_have_is_told() -> None:
    (problem,) = of_window(answer=tensor("y", "batch", 1))
    assert problem == "output.name: given 'probability', accepted one of y"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            tensor("rows", "batch", 32, 4),
            "'rows' of model.onnx is FP32 [-1, 32, 4], accepted [batch, rows, features] =",
        ),
        (tensor("rows", "batch", 31, 3), "accepted [batch, rows, features] = [-1, 32, 3] as declared"),
        (tensor("rows", "batch", 96), "accepted [batch, rows, features] = [-1, 32, 3] as declared"),
        (tensor("rows", "batch", 32, 3, datatype="FP64"), "'rows' of model.onnx is FP64 [-1, 32, 3], accepted FP32"),
    ],
)
def test_a_window_of_another_shape_or_datatype_is_told(given: TensorSpec, problem: str) -> None:
    (only,) = of_window(given)
    assert problem in only


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            tensor("pixels", "batch", 3, 48, 64, datatype="UINT8"),
            "accepted [batch, height, width, 3] = [-1, 48, 64, 3]",
        ),
        (
            tensor("pixels", "batch", 64, 48, 3, datatype="UINT8"),
            "accepted [batch, height, width, 3] = [-1, 48, 64, 3]",
        ),
        (tensor("pixels", "batch", 48, 64, 3), "is FP32 [-1, 48, 64, 3], accepted UINT8"),
    ],
)
def test_a_picture_of_another_shape_or_datatype_is_told(given: TensorSpec, problem: str) -> None:
    (only,) = of_image(given)
    assert problem in only


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (tensor("probability", "batch", 2), "accepted [-1, 1] or [-1]"),
        (tensor("probability"), "accepted [-1, 1] or [-1]"),
        (tensor("probability", "batch", 1, datatype="INT64"), "accepted a floating-point tensor"),
    ],
)
def test_a_probability_of_another_shape_or_datatype_is_told(answer: TensorSpec, problem: str) -> None:
    (only,) = of_window(answer=answer)
    assert problem in only


def test_labels_are_as_many_as_the_output_has_places() -> None:
    (only,) = of_image(answer=tensor("probabilities", "batch", 5))
    assert only.endswith("is FP32 [-1, 5], accepted [-1, 3], one for each of the 3 labels")


def test_a_second_input_could_not_be_filled() -> None:
    signature = Signature((ROWS, tensor("more", "batch")), (PROBABILITY,))
    (only,) = signature_problems(ModelSpec(sensor_window=WINDOW, output=BINARY), signature)
    assert only == "sensor_window.input: model.onnx has more inputs (one of more), accepted exactly one"


def test_all_misfits_are_told_at_once() -> None:
    signature = Signature((tensor("rows", "batch", 96, datatype="FP64"),), (tensor("y", "batch", 1),))
    assert len(signature_problems(ModelSpec(sensor_window=WINDOW, output=BINARY), signature)) == 3
