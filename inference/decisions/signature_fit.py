"""Whether what `model.toml` declares and the tensors of `model.onnx` agree. Pure: nouns in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence

from inference.fault import nearest, one_of
from inference.model import ImageInput, ModelSpec, Output, SensorWindow, Signature
from inference.tensor import Dim, TensorSpec


def signature_problems(spec: ModelSpec, signature: Signature) -> list[str]:
    """Where model.toml and the tensors of model.onnx do not agree, as sentences."""
    problems: list[str] = []
    declared = spec.sensor_window or spec.image
    if declared is not None:
        section = "sensor_window" if spec.sensor_window else "image"
        tensor = _find(f"{section}.input", declared.input, signature.inputs, problems)
        if tensor is not None:
            problems += _input_problems(section, declared, tensor)
        others = [known.name for known in signature.inputs if known.name != declared.input]
        if tensor is not None and others:
            problems.append(f"{section}.input: model.onnx has more inputs ({one_of(others)}), accepted exactly one")
    if spec.output is not None:
        tensor = _find("output.name", spec.output.name, signature.outputs, problems)
        if tensor is not None:
            problems += _output_problems(spec.output, tensor)
    return problems


def _find(path: str, name: str, tensors: Sequence[TensorSpec], problems: list[str]) -> TensorSpec | None:
    names = [tensor.name for tensor in tensors]
    if name in names:
        return tensors[names.index(name)]
    hint = nearest(name, names)
    problems.append(f"{path}: given {name!r}, accepted {f'{hint!r}, it seems' if hint else one_of(names)}")
    return None


def _input_problems(section: str, declared: SensorWindow | ImageInput, tensor: TensorSpec) -> list[str]:
    if isinstance(declared, SensorWindow):
        datatype, wanted, words = "FP32", (declared.rows, len(declared.features)), "[batch, rows, features]"
    else:
        datatype, wanted, words = "UINT8", (declared.height, declared.width, 3), "[batch, height, width, 3]"
    given = f"{section}.input: {tensor.name!r} of model.onnx is {tensor.datatype} {tensor.protocol_shape}"
    problems = [] if tensor.datatype == datatype else [f"{given}, accepted {datatype}"]
    shape = ["batch", *wanted]
    if tensor.ranked and (len(tensor.shape) != len(shape) or not _may_be(tensor.shape[1:], wanted)):
        problems.append(f"{given}, accepted {words} = [-1, {', '.join(map(str, wanted))}] as declared")
    return problems


def _output_problems(output: Output, tensor: TensorSpec) -> list[str]:
    given = f"output.name: {tensor.name!r} of model.onnx is {tensor.datatype} {tensor.protocol_shape}"
    problems = [] if tensor.datatype in ("FP32", "FP16", "FP64") else [f"{given}, accepted a floating-point tensor"]
    count = len(output.labels)
    if output.kind == "binary":
        fits, accepted = any(_may_be(tensor.shape[1:], rest) for rest in ((), (1,))), "[-1, 1] or [-1]"
    else:
        fits, accepted = _may_be(tensor.shape[1:], (count,)), f"[-1, {count}], one for each of the {count} labels"
    if tensor.ranked and not (tensor.shape and fits):
        problems.append(f"{given}, accepted {accepted}")
    return problems


def _may_be(shape: Sequence[Dim], wanted: Sequence[int]) -> bool:
    """Whether a declared shape can have these sizes."""
    return len(shape) == len(wanted) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(shape, wanted, strict=True)
    )
