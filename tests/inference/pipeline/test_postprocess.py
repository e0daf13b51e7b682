"""Outputs get their meaning; docs/confidence.md in examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model import Output
from inference.pipeline.postprocess import (
    BinaryOutput,
    ClassesOutput,
    OutputSide,
    PlainOutput,
    Predictions,
    milliseconds,
    shortest,
    shown,
)
from inference.pipeline.sample import Prepared
from inference.tensor import Tensors
from tests.inference.pipeline.plant import OUTPUT

BINARY = BinaryOutput(OUTPUT)  # threshold 0.3; 1 to 4 real rows: 0.5, 0.6, 0.8, 1
CLASSES = ClassesOutput(Output("probabilities", "classes", ("none", "bubble", "crack")))
FULL = Prepared({}, real_rows=4)


def judged(side: OutputSide, outputs: Tensors, prepared: Prepared, processing_s: float) -> Any:
    """What a caller of the server reads."""
    return shown(side.result(outputs, prepared, processing_s))


def output(*values: float, name: str = "defect_probability") -> dict[str, np.ndarray]:
    return {name: np.array([values], np.float32)}


@pytest.mark.parametrize(
    ("probability", "decision", "confidence"),
    [(0.85, "defect", 0.85), (0.3, "defect", 0.3), (0.25, "ok", 0.75), (0.0, "ok", 1.0), (1.0, "defect", 1.0)],
)
def test_confidence_is_the_probability_that_the_decision_is_right(
    probability: float, decision: str, confidence: float
) -> None:
    result = judged(BINARY, output(probability), FULL, 0.0004)
    assert (result.defect_probability, result.decision, result.confidence) == (probability, decision, confidence)


@pytest.mark.parametrize(("real_rows", "factor"), [(1, 0.5), (2, 0.6), (3, 0.8), (4, 1.0)])
def test_a_short_history_lowers_it_as_the_package_has_measured(real_rows: int, factor: float) -> None:
    result = judged(BINARY, output(0.85), Prepared({}, real_rows), 0.0)
    assert result.confidence == pytest.approx(0.85 * factor)
    assert (result.defect_probability, result.real_rows) == (0.85, real_rows)


def test_a_package_that_has_measured_nothing_lowers_nothing() -> None:
    plain = BinaryOutput(Output("defect_probability", "binary", ("ok", "defect")))
    assert judged(plain, output(0.85), Prepared({}, 1), 0.0).confidence == 0.85


def test_held_values_lower_it_by_the_share_that_was_measured() -> None:
    result = judged(BINARY, output(0.8), Prepared({}, 4, input_quality=0.75), 0.0)
    assert (result.confidence, result.input_quality) == (0.6, 0.75)


def test_the_time_is_in_milliseconds() -> None:
    assert judged(BINARY, output(0.8), FULL, 0.0004).processing_time_ms == 0.4
    assert milliseconds(1.2345678) == 1234.567


def test_classes_name_the_most_probable_one() -> None:
    result = judged(CLASSES, output(0.1, 0.7, 0.2, name="probabilities"), Prepared({}), 0.003)
    assert result.defect_type == "bubble"
    assert result.confidence == 0.7
    assert result.probabilities == {"none": 0.1, "bubble": 0.7, "crack": 0.2}
    assert result.processing_time_ms == 3.0


def test_of_equal_classes_the_first_is_named() -> None:
    assert judged(CLASSES, output(0.4, 0.4, 0.2, name="probabilities"), Prepared({}), 0.0).defect_type == "none"


def test_outputs_without_a_meaning_are_given_as_they_are() -> None:
    outputs = {"y": np.array([[1, 2]], np.int8), "s": np.array("a", object), "f": np.array(0.5, np.float16)}
    assert PlainOutput().result(outputs, Prepared({}), 0.0) == {"y": [[1, 2]], "s": "a", "f": 0.5}
    assert PlainOutput().many(outputs) is outputs


@pytest.mark.parametrize("shape", [(5, 1), (5,)])
def test_many_probabilities_are_judged_as_one_is(shape: tuple[int, ...]) -> None:
    probabilities = np.array([0.85, 0.3, 0.25, 0.0, 1.0], np.float32)
    many = BINARY.many({"defect_probability": probabilities.reshape(shape)})
    one_by_one = [judged(BINARY, output(p), FULL, 0.0) for p in probabilities]
    assert many.probabilities.tolist() == probabilities.tolist()
    assert [many.labels[place] for place in many.decisions] == [one.decision for one in one_by_one]
    assert many.confidence == pytest.approx([one.confidence for one in one_by_one], abs=1e-6)


def test_many_class_probabilities_are_judged_as_one_is() -> None:
    rows = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)
    many = CLASSES.many({"probabilities": rows})
    assert isinstance(many, Predictions)
    assert many.decisions.tolist() == [1, 0]
    assert many.confidence == pytest.approx([0.7, 0.5])


@given(st.floats(0, 1, width=32))
def test_a_shown_probability_is_the_models_own(probability: float) -> None:
    value = np.float32(probability)
    assert np.float32(shortest(float(value))) == value
    assert len(repr(shortest(float(value)))) <= len(repr(float(value)))


@given(st.floats(0, 1))
def test_a_probability_of_double_precision_is_shown_as_it_is(probability: float) -> None:
    assert shortest(probability) == pytest.approx(probability, abs=0, rel=0) or np.float32(probability) == probability


@pytest.mark.parametrize("threshold", [0.3, 0.31, 0.34, 0.7])
def test_a_probability_that_is_shown_as_the_threshold_reaches_it(threshold: float) -> None:
    side = BinaryOutput(Output("defect_probability", "binary", ("ok", "defect"), threshold))
    result = judged(side, output(threshold), FULL, 0.0)
    assert (result.defect_probability, result.decision) == (threshold, "defect")
