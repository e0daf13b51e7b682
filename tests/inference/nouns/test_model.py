"""A signature knows its batch axis and refuses what does not fit."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from inference.errors import InvalidTensor
from inference.model import ModelKey, ModelSpec, SensorWindow, Signature
from inference.tensor import TensorSpec

LSTM = Signature(
    inputs=(TensorSpec("rows", "FP32", ("batch", 32, 3)),),
    outputs=(TensorSpec("defect_probability", "FP32", ("batch", 1)),),
)


def signature(inputs: list[tuple], outputs: list[tuple]) -> Signature:
    """A float signature of these shapes."""
    return Signature(
        tuple(TensorSpec(f"in{n}", "FP32", shape) for n, shape in enumerate(inputs)),
        tuple(TensorSpec(f"out{n}", "FP32", shape) for n, shape in enumerate(outputs)),
    )


def test_a_key_is_written_name_slash_version() -> None:
    assert str(ModelKey("lstm_defect_predictor", 1)) == "lstm_defect_predictor/1"


def test_the_batch_axis_is_the_name_that_all_share() -> None:
    assert LSTM.batch_axis() == "batch"


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([("batch", 3)], [(1, "batch")]),  # batch on axis 1 of the output
        ([("batch", 3)], [("other", 3)]),
        ([(1, 3)], [(1, 3)]),  # batch fixed at 1
        ([(None, 3)], [(None, 3)]),  # unnamed sizes may differ
        ([("n", "n")], [("n",)]),  # a square matrix a request
        ([("batch", 3), ()], [("batch", 3)]),  # a scalar beside it
        ([()], [()]),
    ],
)
def test_shapes_that_rule_batching_out(inputs: list[tuple], outputs: list[tuple]) -> None:
    assert signature(inputs, outputs).batch_axis() is None


def test_fitting_inputs_pass() -> None:
    LSTM.check("lstm/1", {"rows": np.zeros((2, 32, 3), np.float32)})


def test_missing_unknown_and_misshaped_inputs_are_told_together() -> None:
    two = signature([("batch", 3), ("batch", 2)], [("batch", 1)])
    with pytest.raises(InvalidTensor) as caught:
        two.check("m/1", {"in0": np.zeros((1, 4), np.float32), "inn1": np.zeros((1, 2), np.float32)})
    assert [fault.field for fault in caught.value.details] == ["in0.shape[1]", "in1", "inn1"]
    assert caught.value.details[2].accepted == "'in1' was meant?"


def test_inputs_of_different_row_counts_do_not_fit() -> None:
    two = signature([("batch", 3), ("batch", 2)], [("batch", 1)])
    with pytest.raises(InvalidTensor, match="as in the other inputs"):
        two.check("m/1", {"in0": np.zeros((1, 3), np.float32), "in1": np.zeros((2, 2), np.float32)})


def test_an_extra_input_is_refused_even_if_the_rest_fits() -> None:
    with pytest.raises(InvalidTensor, match="unknown input"):
        LSTM.check("lstm/1", {"rows": np.zeros((1, 32, 3), np.float32), "zzz": np.zeros(1, np.float32)})


def test_a_bare_model_gets_defaults_that_promise_nothing() -> None:
    spec = ModelSpec()
    assert (spec.model.task, spec.sensor_window, spec.image, spec.output) == ("tensors", None, None, None)
    assert spec.calibration.method == "none"


def test_a_misspelt_key_of_the_package_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="row_count"):
        msgspec.convert({"input": "rows", "rows": 32, "features": [], "row_count": 32}, SensorWindow)
