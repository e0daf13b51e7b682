"""A model's name, version, signature and the facts that its package declares (`model.toml`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from inference.errors import InvalidTensor
from inference.fault import Fault, nearest, one_of
from inference.tensor import Tensors, TensorSpec

MODEL_FORMAT = 1
Isolation = Literal["thread", "process"]


class ModelKey(NamedTuple):
    """One version of one model, written `name/version`."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Signature(msgspec.Struct, frozen=True):
    """Named, typed and shaped inputs and outputs, as the ONNX file declares them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def batch_axis(self) -> str | None:
        """The name of the batch axis, or None when the declared shapes rule batching out.

        Every input and output must carry the same named size on axis 0, and nowhere else: a size that shows up twice
        (a square matrix per request, a batch on axis 1 of an output) would change its meaning when requests are put
        together.
        """
        tensors = (*self.inputs, *self.outputs)
        first = {spec.shape[0] if spec.shape else None for spec in tensors}
        name = first.pop() if len(first) == 1 else None
        if not isinstance(name, str) or any(name in spec.shape[1:] for spec in tensors):
            return None
        return name

    def check(self, model: str, tensors: Tensors) -> None:
        """Raise InvalidTensor that names every missing, unknown, mistyped and misshaped input."""
        faults: list[Fault] = []
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            array = tensors.get(spec.name)
            if array is None:
                faults.append(Fault(spec.name, "nothing", f"{spec.datatype} {spec.protocol_shape}"))
            else:
                faults += spec.faults(array, sizes)
        if len(tensors) > len(self.inputs) or faults:
            names = [spec.name for spec in self.inputs]
            for name in tensors.keys() - set(names):
                hint = nearest(name, names)
                faults.append(Fault(name, "an unknown input", f"{hint!r} was meant?" if hint else one_of(names)))
        if faults:
            raise InvalidTensor(model, faults)


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sensor of a sensor window, in the unit that the model was trained with."""

    name: str
    unit: str
    valid_min: float
    valid_max: float
    when_missing: Literal["refuse", "hold_last"] = "refuse"
    when_out_of_range: Literal["refuse", "hold_last"] = "refuse"
    normalisation_mean: float = 0.0  # recorded only: nodes of the graph do it
    normalisation_std: float = 1.0


class SensorWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a model that judges the last `rows` rows of a line: FP32 [batch, rows, features], raw units."""

    input: str
    rows: int
    features: tuple[Feature, ...]
    row_interval_s: float = 0.0  # 0: not stated


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a model that judges one picture; tensor shape [batch, height, width, 3], UINT8, 0-255."""

    input: str
    width: int
    height: int
    channels: Literal["RGB"] = "RGB"
    layout: Literal["HWC"] = "HWC"
    resample: Literal["box", "bilinear", "bicubic", "lanczos"] = "box"
    normalisation_mean: tuple[float, ...] = ()  # recorded only: nodes of the graph do it
    normalisation_std: tuple[float, ...] = ()


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the output means: the probability of a defect, or one probability a class."""

    name: str
    kind: Literal["binary", "classes"]
    labels: tuple[str, ...]
    threshold: float = 0.5  # binary: at or above it the decision is labels[1]
    short_history_confidence: tuple[
        float, ...
    ] = ()  # entry k-1: factor on the confidence when only k real rows are known


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record of the calibration nodes in the graph."""

    method: Literal["none", "platt", "temperature"] = "none"
    slope: float = 1.0
    intercept: float = 0.0
    temperature: float = 1.0
    smoothing: float = 0.0  # of labels, as far as the graph turns it back


class ModelLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that the package sets for itself, and what a call gets that says nothing of its own."""

    batch_rows_max: int = 1024
    priority: Literal["critical", "high", "normal", "low"] = "normal"
    timeout_ms: float | None = None  # None: server.request_timeout_s


class ModelRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model is executed.

    `isolation`: in threads of the server, or in a process of its own, so that a crash of it harms no other model.
    """

    isolation: Isolation = "thread"


class ModelTitle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model is, for people."""

    task: Literal["sensor_window", "image", "tensors"] = "tensors"
    title: str = ""
    description: str = ""


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `model.toml`; the default is what a bare `model.onnx` gets."""

    format: int = MODEL_FORMAT
    model: ModelTitle = ModelTitle()
    sensor_window: SensorWindow | None = None
    image: ImageInput | None = None
    output: Output | None = None
    calibration: Calibration = Calibration()
    limits: ModelLimits = ModelLimits()
    runtime: ModelRuntime = ModelRuntime()
