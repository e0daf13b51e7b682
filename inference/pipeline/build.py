"""Chooses how samples of a model become tensors, and outputs a result, so that nobody else asks for the task."""

from __future__ import annotations

from dataclasses import dataclass

from inference.model import ModelSpec, Signature
from inference.pipeline.image import PictureInput
from inference.pipeline.plain_tensors import PlainTensors
from inference.pipeline.postprocess import BinaryOutput, ClassesOutput, OutputSide, PlainOutput, shown
from inference.pipeline.sample import InputSide, Prepared, Sample
from inference.pipeline.sensor_window import SensorWindowInput
from inference.protocols.inference_json import Result
from inference.settings import Settings
from inference.tensor import Tensors


@dataclass(frozen=True)
class Pipeline:
    """Both halves of one model version's pre- and postprocessing."""

    inputs: InputSide
    outputs: OutputSide

    @property
    def blocking(self) -> bool:
        """True if `prepare` takes milliseconds and may run in any thread; else it belongs to one thread."""
        return self.inputs.blocking

    @property
    def keeps_lines(self) -> bool:
        """True if a sample's tensors depend on those that its line (`stream_id`) brought before."""
        return isinstance(self.inputs, SensorWindowInput)

    def prepare(self, sample: Sample) -> Prepared:
        """The tensors of a sample. Raises CallerError that names every fault."""
        return self.inputs.prepare(sample)

    def result(self, outputs: Tensors, prepared: Prepared, processing_s: float) -> Result:
        """What the caller reads. Outputs have to be finite."""
        return shown(self.outputs.result(outputs, prepared, processing_s))


def build_pipeline(spec: ModelSpec, signature: Signature, settings: Settings) -> Pipeline:
    """The pipeline of a package whose spec fits its signature."""
    inputs: InputSide
    if spec.sensor_window is not None:
        inputs = SensorWindowInput(spec.sensor_window, settings.lines)
    elif spec.image is not None:
        inputs = PictureInput(spec.image, settings.images)
    else:
        inputs = PlainTensors(signature)
    outputs: OutputSide
    if spec.output is None:
        outputs = PlainOutput()
    elif spec.output.kind == "binary":
        outputs = BinaryOutput(spec.output)
    else:
        outputs = ClassesOutput(spec.output)
    return Pipeline(inputs, outputs)
