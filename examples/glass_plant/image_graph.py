"""The trained vision transformer as an ONNX graph: raw pixels in, calibrated probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from examples.glass_plant.calibration import SOFT
from examples.glass_plant.image_model import HEADS, MEAN, STD, TOKENS, WIDTH, Block, VisionTransformer
from examples.glass_plant.image_sets import SIDE
from examples.glass_plant.line import DEFECT_TYPES

OPSET, IR_VERSION = 17, 8  # LayerNormalization came with opset 17; old runtimes on devices read both


class GraphBuilder:
    """Nodes and constants of one graph; a node's output carries the node's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Keep an array; returns its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def linear(self, name: str, entry: str, layer: nn.Linear, scale: float = 1.0) -> str:
        """`layer` over the last axis, times `scale`."""
        weight = self.constant(f"{name}_weight", layer.weight.detach().numpy().T * np.float32(scale))
        bias = self.constant(f"{name}_bias", layer.bias.detach().numpy() * np.float32(scale))
        return self.add("Add", name, [self.add("MatMul", f"{name}_product", [entry, weight]), bias])

    def norm(self, name: str, entry: str, layer: nn.LayerNorm) -> str:
        """Layer normalisation over the last axis."""
        scale = self.constant(f"{name}_scale", layer.weight.detach().numpy())
        bias = self.constant(f"{name}_bias", layer.bias.detach().numpy())
        return self.add("LayerNormalization", name, [entry, scale, bias], axis=-1, epsilon=layer.eps)

    def convolution(self, name: str, entry: str, layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> str:
        """`layer`, with the batch normalisation behind it folded into its weights."""
        weight = layer.weight.detach().numpy().astype(np.float64)
        bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy().astype(np.float64)
        if norm is not None:
            spread = np.sqrt(norm.running_var.numpy().astype(np.float64) + norm.eps)
            gain = norm.weight.detach().numpy() / spread
            weight = weight * gain[:, None, None, None]
            bias = norm.bias.detach().numpy() + (bias - norm.running_mean.numpy()) * gain
        weight_name = self.constant(f"{name}_weight", weight.astype(np.float32))
        bias_name = self.constant(f"{name}_bias", bias.astype(np.float32))
        pads = [layer.padding[0]] * 4
        return self.add("Conv", name, [entry, weight_name, bias_name], strides=list(layer.stride), pads=pads)


def transformer_graph(model: VisionTransformer, temperature: float, smoothing: float | None) -> onnx.ModelProto:
    """Graph `pixels` uint8 [batch, 128, 128, 3] -> `probabilities` float32 [batch, 5] in the order of DEFECT_TYPES.

    `smoothing` None: the softmax as it is, to compare with.
    """
    build = GraphBuilder()
    build.constant("split_heads", np.array([0, TOKENS, HEADS, WIDTH // HEADS], np.int64))
    build.constant("join_heads", np.array([0, TOKENS, WIDTH], np.int64))
    value = build.add("Cast", "pixels_float", ["pixels"], to=TensorProto.FLOAT)
    value = build.add(
        "Sub", "normalisation_centred", [value, build.constant("normalisation_mean", np.array(MEAN, np.float32))]
    )
    value = build.add(
        "Div", "normalisation_scaled", [value, build.constant("normalisation_std", np.array(STD, np.float32))]
    )
    value = build.add("Transpose", "channels_first", [value], perm=[0, 3, 1, 2])
    for index, (layer, norm, _) in enumerate(model.stem):
        value = build.add("Relu", f"stem{index}", [build.convolution(f"stem{index}_conv", value, layer, norm)])
    flat = build.constant("token_shape", np.array([0, WIDTH, TOKENS], np.int64))
    value = build.add("Reshape", "stem_flat", [value, flat])
    value = build.add("Transpose", "stem_tokens", [value], perm=[0, 2, 1])
    value = build.add("Add", "tokens", [value, build.constant("place", model.place.detach().numpy())])
    for index, block in enumerate(model.blocks):
        value = _block(build, f"block{index}", value, block)
    value = build.add("ReduceMean", "pooled", [value], axes=[1], keepdims=0)
    value = build.norm("final_norm", value, model.norm)
    value = build.linear("logits", value, model.head)
    calibrate(build, value, temperature, smoothing)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(DEFECT_TYPES)])
    graph = helper.make_graph(build.nodes, "vit_defect_detector", [pixels], [answer], build.constants)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="glass_plant")


def calibrate(build: GraphBuilder, logits: str, temperature: float, smoothing: float | None) -> None:
    """Nodes from `logits` to `probabilities`: calibration.unsmoothed(softmax(logits / temperature), smoothing)."""
    divisor = build.constant("calibration_temperature", np.array([temperature], np.float32))
    value = build.add("Div", "calibration_scaled", [logits, divisor])
    if smoothing is None:
        build.add("Softmax", "probabilities", [value], axis=-1)
        return
    value = build.add("Softmax", "calibration_softmax", [value], axis=-1)
    share = build.constant("calibration_share", np.array([smoothing / len(DEFECT_TYPES)], np.float32))
    rest = build.add("Sub", "calibration_rest", [value, share])
    bend = build.constant("calibration_bend", np.array([SOFT * SOFT], np.float32))
    square = build.add("Add", "calibration_bent", [build.add("Mul", "calibration_square", [rest, rest]), bend])
    value = build.add("Add", "calibration_above", [rest, build.add("Sqrt", "calibration_root", [square])])
    axis = build.constant("calibration_axis", np.array([-1], np.int64))
    total = build.add("ReduceSum", "calibration_total", [value, axis], keepdims=1)
    build.add("Div", "probabilities", [value, total])


def _block(build: GraphBuilder, name: str, tokens: str, block: Block) -> str:
    """One transformer block; the query carries the attention's 1 / sqrt(width of a head)."""
    normed = build.norm(f"{name}_attention_norm", tokens, block.attention_norm)
    parts = {
        "query": (block.query, [0, 2, 1, 3]),
        "key": (block.key, [0, 2, 3, 1]),
        "value": (block.value, [0, 2, 1, 3]),
    }
    heads = {}
    for part, (layer, order) in parts.items():
        scale = (WIDTH // HEADS) ** -0.5 if part == "query" else 1.0
        flat = build.linear(f"{name}_{part}_linear", normed, layer, scale)
        split = build.add("Reshape", f"{name}_{part}_split", [flat, "split_heads"])
        heads[part] = build.add("Transpose", f"{name}_{part}", [split], perm=order)
    weights = build.add("MatMul", f"{name}_scores", [heads["query"], heads["key"]])
    weights = build.add("Softmax", f"{name}_attention", [weights], axis=-1)
    mixed = build.add("MatMul", f"{name}_mixed", [weights, heads["value"]])
    mixed = build.add("Transpose", f"{name}_mixed_tokens", [mixed], perm=[0, 2, 1, 3])
    mixed = build.add("Reshape", f"{name}_joined", [mixed, "join_heads"])
    tokens = build.add("Add", f"{name}_attended", [tokens, build.linear(f"{name}_mix", mixed, block.mix)])
    hidden = build.linear(f"{name}_widen", build.norm(f"{name}_hidden_norm", tokens, block.hidden_norm), block.widen)
    hidden = build.add("Relu", f"{name}_hidden", [hidden])
    return build.add("Add", name, [tokens, build.linear(f"{name}_narrow", hidden, block.narrow)])
