"""The sensor model: an LSTM over 32 rows, its training in torch and its graph in ONNX."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from examples.glass_plant.windows import WINDOW_ROWS, WindowSet, shorten_some

MEAN = np.array([1550.0, 150.0, 15.5], np.float32)
STD = np.array([9.0, 8.0, 1.2], np.float32)
HIDDEN = 40
SHORT_SHARE = 0.25
BATCH, LEARNING_RATE, WEIGHT_DECAY = 256, 6e-3, 1e-4


@dataclass(frozen=True)
class LstmWeights:
    """Parameters in torch's layout: gates in the order input, forget, cell, output."""

    inputs: NDArray[np.float32]  # [4 * hidden, 4], the three sensors and the repetition mark
    recurrent: NDArray[np.float32]  # [4 * hidden, hidden]
    bias: NDArray[np.float32]  # [2, 4 * hidden], of inputs and of recurrence
    head: NDArray[np.float32]  # [1, hidden]
    head_bias: NDArray[np.float32]  # [1]


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(MEAN) + 1, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(rows)[0][:, -1])[:, 0]


def train_lstm(windows: WindowSet, epochs: int, seed: int) -> LstmWeights:
    """Train on whole and shortened windows with binary cross-entropy; the same seed gives the same start and order."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = _Lstm()
    target = torch.from_numpy(windows.defect.astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(target) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps * epochs)
    started = time.monotonic()
    for epoch in range(epochs):
        rows = torch.from_numpy(lstm_input(shorten_some(windows.rows, SHORT_SHARE, rng)))
        order = torch.from_numpy(rng.permutation(len(target))[: steps * BATCH]).view(steps, BATCH)
        loss_sum = 0.0
        for chosen in order:
            loss = nn.functional.binary_cross_entropy_with_logits(model(rows[chosen]), target[chosen])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            loss_sum += loss.item()
        spent_s = time.monotonic() - started
        print(f"  lstm epoch {epoch + 1}/{epochs}: loss {loss_sum / max(steps, 1):.4f}, {spent_s:.0f} s", flush=True)
    state = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
    bias = np.stack([state["lstm.bias_ih_l0"], state["lstm.bias_hh_l0"]])
    return LstmWeights(
        state["lstm.weight_ih_l0"], state["lstm.weight_hh_l0"], bias, state["head.weight"], state["head.bias"]
    )


def lstm_input(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the LSTM reads, [n, 32, 4]: scaled sensors, and 1 where a row repeats the one before it exactly, else 0.

    The mark tells a short history, filled by repetition, from a line that stands still; the graph makes it itself.
    """
    repeated = np.zeros((*rows.shape[:2], 1), np.float32)
    repeated[:, 1:, 0] = (rows[:, 1:] == rows[:, :-1]).all(axis=2)
    return np.concatenate([(rows - MEAN) / STD, repeated], axis=2)


def lstm_graph(weights: LstmWeights, slope: float, intercept: float) -> onnx.ModelProto:
    """ONNX graph: `rows` float32 [batch, 32, 3] in raw units -> `defect_probability` float32 [batch, 1], calibrated."""
    constants = {
        "normalisation_mean": MEAN,
        "normalisation_std": STD,
        "one": np.array([1], np.int64),  # the second row, and the axis of rows
        "minus_one": np.array([-1], np.int64),
        "zero": np.array([0], np.int64),
        "end": np.array([WINDOW_ROWS], np.int64),
        "pad_first_row": np.array([0, 1, 0, 0, 0, 0], np.int64),
        "lstm_inputs": _onnx_gates(weights.inputs)[None],
        "lstm_recurrent": _onnx_gates(weights.recurrent)[None],
        "lstm_bias": np.concatenate([_onnx_gates(part) for part in weights.bias])[None],
        "hidden_shape": np.array([-1, HIDDEN], np.int64),
        "head_weight": weights.head,
        "head_bias": weights.head_bias,
        "calibration_slope": np.array([slope], np.float32),
        "calibration_intercept": np.array([intercept], np.float32),
    }
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Sub", ["rows", "normalisation_mean"], "normalisation_centred", {}),
        ("Div", ["normalisation_centred", "normalisation_std"], "normalisation_scaled", {}),
        ("Slice", ["rows", "one", "end", "one"], "rows_later", {}),
        ("Slice", ["rows", "zero", "minus_one", "one"], "rows_earlier", {}),
        ("Equal", ["rows_later", "rows_earlier"], "equal", {}),
        ("Cast", ["equal"], "equal_number", {"to": TensorProto.FLOAT}),
        ("ReduceMin", ["equal_number"], "equal_row", {"axes": [2], "keepdims": 1}),
        ("Pad", ["equal_row", "pad_first_row"], "repeated", {}),
        ("Concat", ["normalisation_scaled", "repeated"], "lstm_rows", {"axis": 2}),
        ("Transpose", ["lstm_rows"], "time_major", {"perm": [1, 0, 2]}),
        ("LSTM", ["time_major", "lstm_inputs", "lstm_recurrent", "lstm_bias"], "lstm_last", {"hidden_size": HIDDEN}),
        ("Reshape", ["lstm_last", "hidden_shape"], "hidden", {}),
        ("Gemm", ["hidden", "head_weight", "head_bias"], "logit", {"transB": 1}),
        ("Mul", ["logit", "calibration_slope"], "calibration_scaled", {}),
        ("Add", ["calibration_scaled", "calibration_intercept"], "calibration_logit", {}),
        ("Sigmoid", ["calibration_logit"], "defect_probability", {}),
    ]
    nodes = [
        helper.make_node(op, inputs, ["", output] if op == "LSTM" else [output], name=output, **attributes)
        for op, inputs, output, attributes in steps
    ]
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", WINDOW_ROWS, len(MEAN)])
    answer = helper.make_tensor_value_info("defect_probability", TensorProto.FLOAT, ["batch", 1])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "lstm_defect_predictor", [rows], [answer], tensors)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="glass_plant"
    )


def _onnx_gates(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder torch's gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    entry, forget, cell, out = np.split(value, 4)
    return np.concatenate([entry, out, forget, cell])
