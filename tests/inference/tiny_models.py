"""Tiny ONNX models for tests: each builder writes one file that behaves in one known way.

`package` puts a model where the repository looks for it. Most models take `x` FP32 [batch, width] and give `y`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.tensor import Tensors

Builder = Callable[[Path], object]
Dims = Sequence[int | str | None]

OPSET = 17
IR_VERSION = 8
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def tensor(name: str, shape: Dims | None, datatype: str = "FP32") -> onnx.ValueInfoProto:
    """Declaration of an input or output. A shape of None leaves even the rank open."""
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], shape)


def constant(name: str, values: object, dtype: type = np.float32) -> onnx.TensorProto:
    """A weight."""
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Write the graph to `path`."""
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), path)
    return path


# ---- models that behave ----------------------------------------------------------------------------------------------


def adder(path: Path, width: int = 1, step: float = 1.0) -> Path:
    """y = x + step; x and y FP32 [batch, width]."""
    node = helper.make_node("Add", ["x", "step"], ["y"])
    return write(
        path, [node], [tensor("x", ["batch", width])], [tensor("y", ["batch", width])], [constant("step", step)]
    )


def all_types(path: Path, datatype: str = "FP32") -> Path:
    """y = x of any datatype, [batch, 3]."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return write(path, [node], [tensor("x", ["batch", 3], datatype)], [tensor("y", ["batch", 3], datatype)])


def string_model(path: Path) -> Path:
    """`name` BYTES [batch] -> `label` INT64 [batch] (none 0, bubble 1, crack 2, else -1) and `echo` BYTES [batch]."""
    encode = helper.make_node(
        "LabelEncoder",
        ["name"],
        ["label"],
        domain="ai.onnx.ml",
        keys_strings=["none", "bubble", "crack"],
        values_int64s=[0, 1, 2],
        default_int64=-1,
    )
    echo = helper.make_node("Identity", ["name"], ["echo"])
    outputs = [tensor("label", ["batch"], "INT64"), tensor("echo", ["batch"], "BYTES")]
    return write(path, [encode, echo], [tensor("name", ["batch"], "BYTES")], outputs)


def two_inputs(path: Path) -> Path:
    """`a`, `b` FP32 [batch, 2] -> `sum`, `product` FP32 [batch, 2]."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    inputs = [tensor(name, ["batch", 2]) for name in ("a", "b")]
    return write(path, nodes, inputs, [tensor(name, ["batch", 2]) for name in ("sum", "product")])


def scalar(path: Path) -> Path:
    """y = 2 x; both FP32 scalars of shape []."""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    return write(path, [node], [tensor("x", [])], [tensor("y", [])], [constant("two", 2.0)])


def open_rank(path: Path) -> Path:
    """y = -x; the file declares not even the number of dimensions."""
    return write(path, [helper.make_node("Neg", ["x"], ["y"])], [tensor("x", None)], [tensor("y", None)])


def external_data(path: Path, location: str = "weights.bin") -> Path:
    """y = x + w with w = 0..255 kept in another file beside the model; x and y FP32 [batch, 256]."""
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    weight = constant("w", np.arange(256))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    write(path, [node], [tensor("x", ["batch", 256])], [tensor("y", ["batch", 256])], [weight])
    model = onnx.load(path)
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=location, size_threshold=0
    )
    return path


def window_model(path: Path, rows: int = 4, features: int = 3) -> Path:
    """`rows` FP32 [batch, rows, features] -> `defect_probability` FP32 [batch, 1], the sigmoid of the mean."""
    nodes = [
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["defect_probability"]),
    ]
    inputs = [tensor("rows", ["batch", rows, features])]
    outputs = [tensor("defect_probability", ["batch", 1])]
    return write(path, nodes, inputs, outputs, [constant("column", [-1, 1], np.int64)])


def image_model(path: Path, height: int = 4, width: int = 4, labels: int = 5) -> Path:
    """`pixels` UINT8 [batch, height, width, 3] -> `probabilities` FP32 [batch, labels]."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weight = constant("w", np.linspace(-0.02, 0.02, 3 * labels).reshape(3, labels))
    inputs = [tensor("pixels", ["batch", height, width, 3], "UINT8")]
    return write(path, nodes, inputs, [tensor("probabilities", ["batch", labels])], [weight])


def needs_width_8(path: Path) -> Path:
    """`x` FP32 [batch, width] of undeclared width, but only 8 runs; y FP32 [batch, 2]."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return write(path, [node], [tensor("x", ["batch", "width"])], [tensor("y", ["batch", 2])], [_weights(8, 2)])


def slow(path: Path, loops: int = 10) -> Path:
    """y = x after `loops` products of 512x512 matrices, each a few milliseconds on one core; x, y FP32 [batch, 1]."""
    product = helper.make_node("MatMul", ["matrix", "identity"], ["next"])
    going_on = helper.make_node("Identity", ["go"], ["go_on"])
    body = helper.make_graph(
        [product, going_on],
        "body",
        [tensor("turn", [], "INT64"), tensor("go", [], "BOOL"), tensor("matrix", [512, 512])],
        [tensor("go_on", [], "BOOL"), tensor("next", [512, 512])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Mul", ["zeros", "total"], ["begin"]),  # of x, or the loop would be folded away at load
        helper.make_node("Loop", ["loops", "yes", "begin"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    weights = [
        constant("identity", np.eye(512)),
        constant("zeros", np.zeros((512, 512))),
        constant("loops", loops, np.int64),
        constant("yes", True, np.bool_),
    ]
    return write(path, nodes, [tensor("x", ["batch", 1])], [tensor("y", ["batch", 1])], weights)


def looping(path: Path) -> Path:
    """y = x after as many turns of a loop as the largest x says, a microsecond or two each; FP32 [batch, 1]."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["value"], ["same"]), helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [tensor("turn", [], "INT64"), tensor("go", [], "BOOL"), tensor("value", ["batch", 1])],
        [tensor("go_on", [], "BOOL"), tensor("same", ["batch", 1])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
    ]
    weights = [constant("yes", True, np.bool_)]
    return write(path, nodes, [tensor("x", ["batch", 1])], [tensor("y", ["batch", 1])], weights)


# ---- models whose requests must not be put together ------------------------------------------------------------------


def time_first(path: Path) -> Path:
    """Axis 0 is time, though it is declared like a batch: y is the running sum of x; FP32 [time, 2]."""
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    weights = [constant("axis", 0, np.int64)]
    return write(path, [node], [tensor("x", ["time", 2])], [tensor("y", ["time", 2])], weights)


def centred_on_batch(path: Path) -> Path:
    """y = x - mean of the batch: each row's answer depends on its batch-mates; FP32 [batch, 2]."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return write(path, nodes, [tensor("x", ["batch", 2])], [tensor("y", ["batch", 2])])


def batch_on_axis_1_out(path: Path, declared: Dims = (3, "batch")) -> Path:
    """y = x transposed: x FP32 [batch, 3], y [3, batch], or whatever `declared` says of it."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    return write(path, [node], [tensor("x", ["batch", 3])], [tensor("y", declared)])


def fixed_batch_one(path: Path, declared: int | str = 1) -> Path:
    """y = x of shape [1, 3] and nothing else, even where `declared` gives axis 0 a name."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    weights = [constant("shape", [1, 3], np.int64)]
    return write(path, [node], [tensor("x", [declared, 3])], [tensor("y", [declared, 3])], weights)


def dynamic_int8(path: Path) -> Path:
    """A dynamically quantised layer: the scale, and so each row's answer, depends on the whole batch.

    x FP32 [batch, 8], y FP32 [batch, 2].
    """
    quantised = np.random.default_rng(8).integers(-100, 100, (8, 2))
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["xq", "wq", "zero"], ["yq"]),
        helper.make_node("Cast", ["yq"], ["yf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["yf", "scale"], ["y"]),
    ]
    weights = [constant("wq", quantised, np.int8)]
    return write(path, nodes, [tensor("x", ["batch", 8])], [tensor("y", ["batch", 2])], weights)


def declared_one_gives_n(path: Path) -> Path:
    """y is declared [1] and is [batch]: the sum of each row of x FP32 [batch, 3]."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    weights = [constant("axes", [1], np.int64)]
    return write(path, [node], [tensor("x", ["batch", 3])], [tensor("y", [1])], weights)


# ---- models that go wrong --------------------------------------------------------------------------------------------


def nan_model(path: Path) -> Path:
    """y = log x: NaN below 0, minus infinity at 0; FP32 [batch, 1]."""
    node = helper.make_node("Log", ["x"], ["y"])
    return write(path, [node], [tensor("x", ["batch", 1])], [tensor("y", ["batch", 1])])


def fails_on(path: Path, value: float = 13.0) -> Path:
    """y = x, but the run fails if any x equals `value` (an index out of range); FP32 [batch, 1]."""
    nodes = [
        helper.make_node("Equal", ["x", "value"], ["hit"]),
        helper.make_node("Cast", ["hit"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    weights = [constant("value", value), constant("table", [0.0])]
    return write(path, nodes, [tensor("x", ["batch", 1])], [tensor("y", ["batch", 1])], weights)


def sequence_output(path: Path) -> Path:
    """The output is a sequence of tensors, which no protocol here can carry."""
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["pair"])
    output = helper.make_tensor_sequence_value_info("pair", TensorProto.FLOAT, ["batch", 1])
    return write(path, [node], [tensor("x", ["batch", 1])], [output])


def corrupt(path: Path) -> Path:
    """A file that is no ONNX model."""
    path.write_bytes(b"this is no model\n" * 10)
    return path


# ---- packages --------------------------------------------------------------------------------------------------------


def package(
    folder: Path,
    name: str,
    version: int,
    builder: Builder,
    toml: str | None = None,
    example: Tensors | None = None,
    *,
    manifest: bool = False,
) -> Path:
    """Write `folder`/NAME/VERSION with model.onnx and what else is given; returns that folder."""
    place = folder / name / str(version)
    place.mkdir(parents=True)
    builder(place / "model.onnx")
    if toml is not None:
        (place / "model.toml").write_text(toml)
    if example is not None:
        np.savez_compressed(place / "example.npz", allow_pickle=False, **example)
    if manifest:
        write_manifest(place)
    return place


def write_manifest(place: Path) -> None:
    """SHA256SUMS over every file of the package, as sha256sum writes it."""
    files = sorted(file for file in place.rglob("*") if file.is_file() and file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(place)}\n" for file in files]
    (place / "SHA256SUMS").write_text("".join(lines))


def _weights(*shape: int) -> onnx.TensorProto:
    return constant("w", np.random.default_rng(5).normal(size=shape))
