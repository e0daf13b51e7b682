"""The `parameters` objects of the Open Inference Protocol: what its own keys mean; all other keys are the caller's own.

Own parameters keep requests with other values out of the same Batch. Keys that mean something which this server does
not have are refused, never passed over.
"""

from __future__ import annotations

from typing import NamedTuple

from inference.errors import InvalidValues, Unsupported
from inference.fault import Fault, quoted
from inference.protocols.call_limits import NO_LIMITS, CallLimits
from inference.request import LIVE_PRIORITIES, Priority

PRIORITY_MAX = max(LIVE_PRIORITIES)  # 0 is the default, 1 the highest
TIMEOUT_US_MAX = 10**15  # 30 years
OWN_KEYS_MAX = 64  # own parameters wait in the queue with their request: at most 64 * (tensor's name + 2 * 256)
OWN_CHARS_MAX = 256  # of a key, and of a value

Scalar = str | int | float | bool
Parameters = dict[str, Scalar]
OwnParameters = list[tuple[str, Scalar]]  # those of tensors as `inputs.<name>.<key>` and `outputs.<name>.<key>`

_SHARED_MEMORY = frozenset({"shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"})
_SEQUENCE = frozenset({"sequence_id", "sequence_start", "sequence_end"})
_RESERVED = "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."


class CallParameters(NamedTuple):
    """Parameters of a whole request."""

    limits: CallLimits = NO_LIMITS
    binary_outputs: bool = False


def read_call(parameters: Parameters, own: OwnParameters) -> CallParameters:
    """The request's parameters; adds the caller's own to `own`. Raises InvalidValues or Unsupported."""
    timeout_us = priority = 0
    binary = False
    for key, value in parameters.items():
        field = f"parameters.{key}"
        if key == "binary_data_output":
            binary = _flag(value, field)
        elif key == "priority":
            priority = _count(value, field, PRIORITY_MAX, "0 for the model's default, 1 critical to 4 low")
        elif key == "timeout":
            timeout_us = _count(value, field, TIMEOUT_US_MAX, "microseconds, 0 for the server's limit")
        elif key in _SEQUENCE:
            if value not in (0, ""):  # false is 0
                raise Unsupported(f"Parameter {key!r} (sequence batching)", "Send requests without a sequence.")
        else:
            _add_own(key, value, key, own)
    limits = NO_LIMITS
    if timeout_us or priority:
        limits = CallLimits(Priority(priority) if priority else None, timeout_us / 1e6 if timeout_us else None)
    return CallParameters(limits, binary)


def read_input(parameters: Parameters, name: str, own: OwnParameters) -> int | None:
    """The bytes of an input that comes as binary, or None. Raises InvalidValues or Unsupported."""
    byte_count = None
    for key, value in parameters.items():
        if key == "binary_data_size":
            byte_count = _count(value, f"inputs.{name}.parameters.{key}", 2**62, "bytes")
        else:
            _add_own(key, value, f"inputs.{name}.{key}", own)
    return byte_count


def read_output(parameters: Parameters, name: str, binary: bool, own: OwnParameters) -> bool:
    """Whether this output comes as binary; `binary` is the request's default. Raises InvalidValues or Unsupported."""
    for key, value in parameters.items():
        if key == "binary_data":
            binary = _flag(value, f"outputs.{name}.parameters.{key}")
        elif key == "classification":
            raise Unsupported("Parameter 'classification'", "Ask for the output itself, and sort it.")
        else:
            _add_own(key, value, f"outputs.{name}.{key}", own)
    return binary


def _add_own(key: str, value: Scalar, path: str, own: OwnParameters) -> None:
    if key in _SHARED_MEMORY:
        raise Unsupported(f"Parameter {key!r} (shared memory)", "Send tensors in the body, as JSON or binary.")
    if key.startswith("triton_"):
        raise InvalidValues(
            [Fault(f"parameters.{quoted(key)[1:-1]}", quoted(value), f"a key of your own: {_RESERVED}")]
        )
    if len(own) == OWN_KEYS_MAX or len(key) > OWN_CHARS_MAX or len(str(value)) > OWN_CHARS_MAX:
        accepted = f"at most {OWN_KEYS_MAX} keys of your own, each key and value of at most {OWN_CHARS_MAX} characters"
        raise InvalidValues([Fault(f"parameters.{quoted(key)[1:-1]}", quoted(value), accepted)])
    own.append((path, value))


def _flag(value: Scalar, field: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidValues([Fault(field, quoted(value), "true or false")])


def _count(value: Scalar, field: str, largest: int, unit: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest:
        return value
    raise InvalidValues([Fault(field, quoted(value), f"a whole number from 0 to {largest} ({unit})")])
