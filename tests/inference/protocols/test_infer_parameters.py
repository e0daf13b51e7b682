"""Keys of `parameters`: the protocol's own are checked, what is not there is refused, the rest is the caller's own."""

from __future__ import annotations

import pytest

from inference.errors import InvalidValues, Unsupported
from inference.protocols.call_limits import CallLimits
from inference.protocols.infer_parameters import (
    CallParameters,
    OwnParameters,
    Parameters,
    read_call,
    read_input,
    read_output,
)
from inference.request import Priority


def test_the_protocols_own_keys_are_read() -> None:
    own: OwnParameters = []

    read = read_call({"timeout": 1500, "priority": 4, "binary_data_output": True}, own)

    assert read == CallParameters(CallLimits(Priority.LOW, 0.0015), binary_outputs=True)
    assert own == []


def test_zero_means_the_servers_default() -> None:
    assert read_call({"timeout": 0, "priority": 0}, []) == CallParameters()


def test_other_keys_are_the_callers_own() -> None:
    own: OwnParameters = []

    read_call({"recipe": "float-4mm"}, own)
    assert read_input({"binary_data_size": 12, "content_type": "np"}, "x", own) == 12
    assert read_output({"binary_data": False, "digits": 3}, "y", True, own) is False

    assert own == [("recipe", "float-4mm"), ("inputs.x.content_type", "np"), ("outputs.y.digits", 3)]


@pytest.mark.parametrize("value", [-1, 5, 1.0, "1", True])
def test_a_priority_is_a_level_from_0_to_4(value: object) -> None:
    with pytest.raises(InvalidValues, match=r"parameters\.priority: .* accepted a whole number from 0 to 4"):
        read_call({"priority": value}, [])  # type: ignore[dict-item] - wrong on purpose


@pytest.mark.parametrize("value", [-1, 10**16, 2.5, "1000", False])
def test_a_timeout_is_a_number_of_microseconds(value: object) -> None:
    with pytest.raises(InvalidValues, match=r"parameters\.timeout: .* \(microseconds"):
        read_call({"timeout": value}, [])  # type: ignore[dict-item] - wrong on purpose


def test_flags_are_true_or_false() -> None:
    with pytest.raises(InvalidValues, match=r"parameters\.binary_data_output: given 1, accepted true or false"):
        read_call({"binary_data_output": 1}, [])
    with pytest.raises(InvalidValues, match=r"outputs\.y\.parameters\.binary_data: given 'yes'"):
        read_output({"binary_data": "yes"}, "y", False, [])


@pytest.mark.parametrize("parameters", [{"sequence_id": 7}, {"sequence_id": "line"}, {"sequence_start": True}])
def test_sequences_are_refused(parameters: Parameters) -> None:
    with pytest.raises(Unsupported, match="sequence batching"):
        read_call(parameters, [])


def test_what_the_clients_send_for_no_sequence_is_accepted() -> None:
    own: OwnParameters = []

    assert read_call({"sequence_id": 0, "sequence_start": False, "sequence_end": False}, own) == CallParameters()
    assert read_call({"sequence_id": ""}, own) == CallParameters()
    assert own == []


def test_shared_memory_and_classification_are_refused() -> None:
    with pytest.raises(Unsupported, match="shared memory"):
        read_input({"shared_memory_region": "r", "shared_memory_byte_size": 4}, "x", [])
    with pytest.raises(Unsupported, match="shared memory"):
        read_output({"shared_memory_region": "r"}, "y", False, [])
    with pytest.raises(Unsupported, match="classification"):
        read_output({"classification": 3}, "y", False, [])


def test_reserved_keys_are_refused_everywhere() -> None:
    reserved = "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified"
    with pytest.raises(InvalidValues, match=reserved):
        read_call({"triton_enable_empty_final_response": True}, [])
    with pytest.raises(InvalidValues, match=reserved):
        read_input({"triton_x": 1}, "x", [])
    with pytest.raises(InvalidValues, match=reserved):
        read_output({"triton_x": 1}, "y", False, [])


def test_own_parameters_are_bounded_since_they_wait_with_their_request() -> None:
    read_call({f"key{number}": number for number in range(64)}, [])
    for parameters in (
        {f"key{number}": 0 for number in range(65)},
        {"key": "v" * 257},
        {"k" * 257: 0},
        {"key": 10**256},
    ):
        with pytest.raises(InvalidValues, match="at most 64 keys of your own, each key and value of at most 256"):
            read_call(dict(parameters), [])
