"""The choice of an execution provider, from what is wanted and what the build has."""

from __future__ import annotations

from inference.runtime.devices import Candidate, candidates, not_initialised

GPU_BUILD = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
CPU_BUILD = ["AzureExecutionProvider", "CPUExecutionProvider"]


def test_a_build_for_processors_passes_over_the_rest_and_says_what_it_has() -> None:
    found, passed_over = candidates(("tensorrt", "cuda", "cpu"), CPU_BUILD)
    has = "(available: AzureExecutionProvider, CPUExecutionProvider)"
    assert found == [Candidate("cpu", ("CPUExecutionProvider",))]
    assert passed_over == [f"{name}: not in this build of ONNX Runtime {has}" for name in ("tensorrt", "cuda")]


def test_a_build_for_graphics_cards_tries_the_best_first_with_its_fallbacks() -> None:
    found, passed_over = candidates(("tensorrt", "cuda", "cpu"), GPU_BUILD)
    assert [candidate.provider for candidate in found] == ["tensorrt", "cuda", "cpu"]
    assert found[0].classes == tuple(GPU_BUILD)
    assert found[1].classes == tuple(GPU_BUILD[1:])
    assert passed_over == []


def test_the_order_is_the_caller_s_and_nothing_is_tried_twice() -> None:
    found, _ = candidates(("cpu", "cuda", "cpu"), GPU_BUILD)
    assert [candidate.provider for candidate in found] == ["cpu", "cuda"]


def test_tensorrt_without_cuda_falls_back_to_the_processor() -> None:
    found, _ = candidates(("tensorrt",), [GPU_BUILD[0], GPU_BUILD[2]])
    assert found[0].classes == ("TensorrtExecutionProvider", "CPUExecutionProvider")


def test_a_provider_that_cannot_start_is_told_with_its_cause() -> None:
    sentence = not_initialised("cuda", "libcublasLt.so.12: cannot open shared object file")
    assert sentence == "cuda: failed to initialise: libcublasLt.so.12: cannot open shared object file"
