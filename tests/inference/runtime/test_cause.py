"""Exceptions of ONNX Runtime, as it really words them, in a line for people."""

from __future__ import annotations

import pytest

from inference.runtime.cause import cause_of

RESHAPE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Status Message: "
    "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 onnxruntime::ReshapeHelper::"
    "ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) size was false.\n"
)
LIBRARIES = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install it."
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (RESHAPE, "Non-zero status code returned while running Reshape node. Status Message: size was false."),
        (LIBRARIES, "Please install it."),
        ("two\n  lines", "two lines"),
        ("", "ValueError"),
    ],
)
def test_the_place_in_the_source_is_left_out(text: str, cause: str) -> None:
    assert cause_of(ValueError(text)) == cause


def test_a_long_text_is_cut() -> None:
    assert len(cause_of(ValueError("x" * 10_000))) == 300
