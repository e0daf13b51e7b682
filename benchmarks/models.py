"""Two models that every inference server can load: a small LSTM and a small vision transformer, with fixed seeds.

They are dropped into a models folder as they are, without a model.toml, and the peers read the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
LSTM_SHAPE = (32, 3)  # rows, features
LSTM_UNITS = 64
VIT_SHAPE = (3, 64, 64)  # channels, height, width
VIT_PATCH, VIT_WIDTH, VIT_DEPTH, VIT_HEADS, VIT_CLASSES = 8, 192, 4, 3, 5


class Graph:
    """Nodes and constants of an ONNX graph, put together in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def save(self, path: Path, shape: tuple[int, ...], outputs: int) -> None:
        """Write the model: input `input` [batch, *shape], output `output` [batch, outputs], both float32."""
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", outputs])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))


def build_lstm(path: Path) -> None:
    """LSTM of 64 units over [batch, 32, 3], then one sigmoid output."""
    random = np.random.default_rng(1)
    bound = 1 / np.sqrt(LSTM_UNITS)

    def uniform(*shape: int) -> NDArray[np.float32]:
        return random.uniform(-bound, bound, shape).astype(np.float32)

    graph = Graph()
    weights = [
        graph.constant("W", uniform(1, 4 * LSTM_UNITS, LSTM_SHAPE[1])),
        graph.constant("R", uniform(1, 4 * LSTM_UNITS, LSTM_UNITS)),
        graph.constant("B", uniform(1, 8 * LSTM_UNITS)),
    ]
    dense = [graph.constant("dense_w", uniform(LSTM_UNITS, 1)), graph.constant("dense_b", uniform(1))]
    graph.node("Transpose", ["input"], "rows_first", perm=[1, 0, 2])
    graph.nodes.append(helper.make_node("LSTM", ["rows_first", *weights], ["", "last", ""], hidden_size=LSTM_UNITS))
    graph.node("Squeeze", ["last", graph.constant("axis_0", np.array([0], np.int64))], "state")
    graph.node("Sigmoid", [graph.node("Gemm", ["state", *dense], "logit")], "output")
    graph.save(path, LSTM_SHAPE, 1)


class Vit:
    """A vision transformer with 65 tokens of width 192, 4 blocks, 3 heads and 5 classes (Dosovitskiy et al., 2021)."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._random = np.random.default_rng(2)
        self.tokens = (VIT_SHAPE[1] // VIT_PATCH) ** 2 + 1
        self.head_width = VIT_WIDTH // VIT_HEADS
        constant = self.graph.constant
        constant("flat_shape", np.array([0, VIT_WIDTH, -1], np.int64))
        constant("qkv_shape", np.array([0, self.tokens, 3, VIT_HEADS, self.head_width], np.int64))
        constant("merged_shape", np.array([0, self.tokens, VIT_WIDTH], np.int64))
        for index in range(3):
            constant(f"index_{index}", np.array(index, np.int64))
        constant("class_shape", np.array([1, VIT_WIDTH], np.int64))
        constant("scale", np.array(self.head_width**-0.5, np.float32))
        constant("half", np.array(0.5, np.float32))
        constant("one", np.array(1.0, np.float32))
        constant("sqrt_2", np.array(2**0.5, np.float32))

    def weight(self, name: str, *shape: int) -> str:
        """A constant of normal numbers."""
        return self.graph.constant(name, (self._random.standard_normal(shape) * 0.02).astype(np.float32))

    def linear(self, x: str, tag: str, wide_in: int, wide_out: int) -> str:
        """x @ w + b."""
        product = self.graph.node("MatMul", [x, self.weight(f"{tag}_w", wide_in, wide_out)], f"{tag}_product")
        return self.graph.node("Add", [product, self.weight(f"{tag}_b", wide_out)], f"{tag}_sum")

    def norm(self, x: str, tag: str) -> str:
        """Layer normalisation over the last axis."""
        gain = self.graph.constant(f"{tag}_gain", np.ones(VIT_WIDTH, np.float32))
        shift = self.graph.constant(f"{tag}_shift", np.zeros(VIT_WIDTH, np.float32))
        return self.graph.node("LayerNormalization", [x, gain, shift], f"{tag}_normed", axis=-1, epsilon=1e-6)

    def gelu(self, x: str, tag: str) -> str:
        """GELU by the error function (Hendrycks and Gimpel, 2016)."""
        node = self.graph.node
        error = node("Erf", [node("Div", [x, "sqrt_2"], f"{tag}_scaled")], f"{tag}_erf")
        half = node("Mul", [x, "half"], f"{tag}_half")
        return node("Mul", [half, node("Add", [error, "one"], f"{tag}_lifted")], f"{tag}_gelu")

    def embed(self) -> str:
        """Patches and the class token as [batch, tokens, width], with positions."""
        node = self.graph.node
        patches = node(
            "Conv",
            ["input", self.weight("patch_w", VIT_WIDTH, 3, VIT_PATCH, VIT_PATCH), self.weight("patch_b", VIT_WIDTH)],
            "patches",
            kernel_shape=[VIT_PATCH, VIT_PATCH],
            strides=[VIT_PATCH, VIT_PATCH],
        )
        flat = node("Transpose", [node("Reshape", [patches, "flat_shape"], "flat")], "patch_tokens", perm=[0, 2, 1])
        batch = node("Shape", ["input"], "batch_size", start=0, end=1)
        shape = node("Concat", [batch, "class_shape"], "class_shape_of_batch", axis=0)
        first = node("Expand", [self.weight("class_token", 1, 1, VIT_WIDTH), shape], "class_tokens")
        tokens = node("Concat", [first, flat], "tokens", axis=1)
        return node("Add", [tokens, self.weight("positions", 1, self.tokens, VIT_WIDTH)], "embedded")

    def attend(self, x: str, tag: str) -> str:
        """Multi-head self-attention (Vaswani et al., 2017)."""
        node = self.graph.node
        qkv = node("Reshape", [self.linear(x, f"{tag}_qkv", VIT_WIDTH, 3 * VIT_WIDTH), "qkv_shape"], f"{tag}_split")
        qkv = node("Transpose", [qkv], f"{tag}_heads", perm=[2, 0, 3, 1, 4])
        query, key, value = (node("Gather", [qkv, f"index_{i}"], f"{tag}_part_{i}", axis=0) for i in range(3))
        key = node("Transpose", [key], f"{tag}_key", perm=[0, 1, 3, 2])
        scores = node("Mul", [node("MatMul", [query, key], f"{tag}_scores"), "scale"], f"{tag}_scaled_scores")
        weights = node("Softmax", [scores], f"{tag}_weights", axis=-1)
        mixed = node("Transpose", [node("MatMul", [weights, value], f"{tag}_mixed")], f"{tag}_back", perm=[0, 2, 1, 3])
        merged = node("Reshape", [mixed, "merged_shape"], f"{tag}_merged")
        return self.linear(merged, f"{tag}_out", VIT_WIDTH, VIT_WIDTH)

    def block(self, x: str, tag: str) -> str:
        """One pre-norm block: attention, then two dense layers, each with its shortcut."""
        node = self.graph.node
        x = node("Add", [x, self.attend(self.norm(x, f"{tag}_norm_1"), tag)], f"{tag}_attended")
        wide = self.linear(self.norm(x, f"{tag}_norm_2"), f"{tag}_wide", VIT_WIDTH, 4 * VIT_WIDTH)
        return node(
            "Add", [x, self.linear(self.gelu(wide, tag), f"{tag}_narrow", 4 * VIT_WIDTH, VIT_WIDTH)], f"{tag}_x"
        )


def build_vit(path: Path) -> None:
    """Vision transformer over [batch, 3, 64, 64], with 5 logits."""
    vit = Vit()
    x = vit.embed()
    for depth in range(VIT_DEPTH):
        x = vit.block(x, f"block_{depth}")
    first = vit.graph.node("Gather", [vit.norm(x, "final"), "index_0"], "class_state", axis=1)
    vit.graph.node("Identity", [vit.linear(first, "head", VIT_WIDTH, VIT_CLASSES)], "output")
    vit.graph.save(path, VIT_SHAPE, VIT_CLASSES)


def build_models(folder: Path) -> Path:
    """A models folder with `lstm` and `vit`, built once. Returns the folder."""
    for name, build in (("lstm", build_lstm), ("vit", build_vit)):
        path = folder / name / "1" / "model.onnx"
        if not path.exists():
            build(path)
    return folder
