"""From a model's outputs to the result that a caller reads; docs/confidence.md defines `confidence`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inference.model import Output
from inference.pipeline.sample import Prepared
from inference.protocols.inference_json import DefectProbability, DefectType, Result
from inference.tensor import Array, Tensors

CONFIDENCE_DIGITS = 6


@dataclass(slots=True, frozen=True, eq=False)
class Predictions:
    """Answers for n inputs, in their order.

    `probabilities`: [n] of `labels[1]`, or [n, labels]; `decisions`: INT64 [n], places in `labels`; `confidence`: [n],
    the calibrated probability that the decision is right. Floats have the datatype of the model's output.
    """

    probabilities: Array
    decisions: Array
    confidence: Array
    labels: tuple[str, ...]


class OutputSide(Protocol):
    """Gives the outputs of a model their meaning. Every output is finite."""

    def result(self, outputs: Tensors, prepared: Prepared, processing_s: float) -> Result:
        """The result of a prediction with one row."""
        ...

    def many(self, outputs: Tensors) -> Predictions | Tensors:
        """The answers for n inputs whose values were all measured."""
        ...


def shortest(value: float) -> float:
    """The shortest decimal that reads back as the same FP32 value: 0.85, not 0.8500000238418579.

    A value that is none of FP32 stays as it is.
    """
    single = np.float32(value)
    return float(str(single)) if single == value else value


def shown(result: Result) -> Result:
    """The result with its numbers as people and JSON want them: short, and exact all the same."""
    if isinstance(result, DefectProbability):
        return DefectProbability(
            shortest(result.defect_probability),
            round(result.confidence, CONFIDENCE_DIGITS),
            milliseconds(result.processing_time_ms / 1000),
            result.decision,
            result.input_quality,
            result.real_rows,
        )
    if isinstance(result, DefectType):
        return DefectType(
            result.defect_type,
            round(result.confidence, CONFIDENCE_DIGITS),
            {label: shortest(probability) for label, probability in result.probabilities.items()},
            milliseconds(result.processing_time_ms / 1000),
        )
    return result


def milliseconds(seconds: float) -> float:
    """Whole microseconds, as milliseconds."""
    return int(seconds * 1e6) / 1000


class BinaryOutput:
    """The output of shape [batch] or [batch, 1] is the calibrated probability of `labels[1]`."""

    def __init__(self, output: Output) -> None:
        self._name = output.name
        # So that an FP32 output that is shown as the threshold reaches it, though FP32 may have rounded it down.
        self._threshold = min(output.threshold, float(np.float32(output.threshold)))
        self._labels = output.labels
        self._short_history = output.short_history_confidence

    def result(self, outputs: Tensors, prepared: Prepared, processing_s: float) -> DefectProbability:
        """Probability, decision at the model's threshold, and the confidence in that decision."""
        real_rows, input_quality = prepared.real_rows, prepared.input_quality
        probability = float(outputs[self._name].item())
        positive = probability >= self._threshold
        confidence = (probability if positive else 1.0 - probability) * input_quality
        if real_rows <= len(self._short_history):
            confidence *= self._short_history[real_rows - 1]
        return DefectProbability(
            probability,
            confidence,
            processing_s * 1000,
            self._labels[positive],
            input_quality,
            real_rows,
        )

    def many(self, outputs: Tensors) -> Predictions:
        """Probabilities [n] with the decisions at the model's threshold."""
        probabilities = outputs[self._name].reshape(-1)
        positive = probabilities >= self._threshold
        confidence = np.where(positive, probabilities, 1 - probabilities)
        if self._short_history:
            confidence *= probabilities.dtype.type(self._short_history[-1])
        return Predictions(probabilities, positive.astype(np.int64), confidence, self._labels)


class ClassesOutput:
    """The output of shape [batch, labels] holds one calibrated probability a class."""

    def __init__(self, output: Output) -> None:
        self._name = output.name
        self._labels = output.labels

    def result(self, outputs: Tensors, prepared: Prepared, processing_s: float) -> DefectType:
        """The most probable class (the first of equals), and its probability as the confidence."""
        row = outputs[self._name].reshape(-1)
        probabilities = row.tolist()
        best = int(row.argmax())
        return DefectType(
            self._labels[best],
            probabilities[best] * prepared.input_quality,
            dict(zip(self._labels, probabilities, strict=True)),
            processing_s * 1000,
        )

    def many(self, outputs: Tensors) -> Predictions:
        """Probabilities [n, labels] with the most probable class of each."""
        probabilities = outputs[self._name]
        return Predictions(probabilities, probabilities.argmax(axis=1), probabilities.max(axis=1), self._labels)


class PlainOutput:
    """Outputs whose meaning nobody has declared."""

    def result(self, outputs: Tensors, prepared: Prepared, processing_s: float) -> dict[str, Any]:
        """{output name: values}, nested as the output has axes."""
        return {name: array.tolist() for name, array in outputs.items()}

    def many(self, outputs: Tensors) -> Tensors:
        """The outputs as they are."""
        return outputs
