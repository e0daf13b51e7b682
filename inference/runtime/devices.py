"""Which execution provider runs a model, and why not a better one. Pure: from what is wanted and what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

PROVIDER_CLASSES = {  # in the settings -> in ONNX Runtime
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
PROVIDER_LIBRARIES = {  # the shared library of a provider, beside ONNX Runtime's own
    "tensorrt": "libonnxruntime_providers_tensorrt.so",
    "cuda": "libonnxruntime_providers_cuda.so",
}
FALLBACKS = {  # where operators go that a provider does not have, best first
    "tensorrt": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "cuda": ("CPUExecutionProvider",),
    "cpu": (),
}


class Candidate(msgspec.Struct, frozen=True):
    """A provider worth trying: its name in the settings, and the provider classes to hand to ONNX Runtime in order."""

    provider: str
    classes: tuple[str, ...]


def candidates(wanted: Sequence[str], available: Iterable[str]) -> tuple[list[Candidate], list[str]]:
    """The providers to try, in the order wanted, and a sentence for each that this build does not have."""
    built_in = list(available)
    found: list[Candidate] = []
    passed_over: list[str] = []
    for provider in dict.fromkeys(wanted):
        own_class = PROVIDER_CLASSES[provider]
        if own_class in built_in:
            fallbacks = [name for name in FALLBACKS[provider] if name in built_in]
            found.append(Candidate(provider, (own_class, *fallbacks)))
        else:
            passed_over.append(f"{provider}: not in this build of ONNX Runtime (available: {', '.join(built_in)})")
    return found, passed_over


def not_initialised(provider: str, cause: str) -> str:
    """The sentence for a provider that is in the build and could not be started."""
    return f"{provider}: failed to initialise: {cause}"
