"""Requests of the Open Inference Protocol are read as they were meant, answers are written byte for byte."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InferenceError, InvalidTensor, InvalidValues, MalformedBody, NonFiniteOutput, UnknownField
from inference.model import ModelKey, Signature
from inference.protocols.open_inference import (
    InferCall,
    RequestedOutput,
    read_header_length,
    read_infer,
    write_infer,
    write_model_metadata,
    write_object,
    write_server_metadata,
)
from inference.request import Prediction, Timings
from inference.tensor import Array, TensorSpec

KEY = ModelKey("furnace", 3)
SIGNATURE = Signature(
    (TensorSpec("rows", "FP32", ("batch", 2)), TensorSpec("glass", "BYTES", ("batch",))),
    (TensorSpec("risk", "FP32", ("batch", 1)), TensorSpec("label", "BYTES", ("batch",))),
)
ROWS = {"name": "rows", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}
GLASS = {"name": "glass", "shape": [2], "datatype": "BYTES", "data": ["float", "é"]}


def read(body: dict[str, Any], *blobs: bytes, signature: Signature = SIGNATURE) -> InferCall:
    text = json.dumps(body).encode()
    return read_infer(b"".join((text, *blobs)), len(text) if blobs else None, KEY, signature)


def refusal(body: dict[str, Any], *blobs: bytes, signature: Signature = SIGNATURE) -> InferenceError:
    with pytest.raises(InferenceError) as caught:
        read(body, *blobs, signature=signature)
    return caught.value


def one_input(datatype: str, *shape: int | str | None, output: str = "FP32") -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", output, shape),))


def prediction(non_finite: tuple[str, ...] = (), **outputs: Array) -> Prediction:
    return Prediction("r", KEY, outputs, Timings(0, 0, 1), non_finite)


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_json_request_is_read() -> None:
    call = read({"id": "a", "inputs": [ROWS, GLASS]})

    assert call.id == "a"
    assert call.inputs["rows"].tolist() == [[1, 2.5], [3, 4]]
    assert call.inputs["rows"].dtype == np.float32
    assert call.inputs["glass"].tolist() == ["float", "é"]
    assert call.outputs == (RequestedOutput("risk", "FP32", False), RequestedOutput("label", "BYTES", False))


def test_inputs_come_in_the_order_of_the_signature_so_that_they_can_share_a_batch() -> None:
    extra = {**ROWS, "name": "extra"}

    assert list(read({"inputs": [extra, GLASS, ROWS]}).inputs) == ["rows", "glass", "extra"]


def test_binary_inputs_follow_the_json_in_the_order_of_the_request() -> None:
    rows = {"name": "rows", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    glass = {"name": "glass", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}

    call = read({"inputs": [glass, rows]}, b"\2\0\0\0ab", np.float32([1, 2]).tobytes())

    assert call.inputs["rows"].tolist() == [[1, 2]]
    assert call.inputs["glass"].tolist() == ["ab"]


def test_json_and_binary_inputs_may_be_mixed() -> None:
    rows = {"name": "rows", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}

    call = read({"inputs": [GLASS, rows]}, np.float32([1, 2, 3, 4]).tobytes())

    assert call.inputs["rows"].tolist() == [[1, 2], [3, 4]]
    assert call.inputs["glass"].tolist() == ["float", "é"]


def test_optional_fields_may_be_null() -> None:
    call = read({"id": None, "parameters": None, "outputs": None, "inputs": [{**ROWS, "parameters": None}]})

    assert (call.id, call.group, len(call.outputs)) == ("", (), 2)


def test_named_outputs_come_in_the_callers_order_each_in_its_own_form() -> None:
    outputs = [{"name": "label"}, {"name": "risk", "parameters": {"binary_data": False}}]

    call = read({"inputs": [ROWS], "outputs": outputs, "parameters": {"binary_data_output": True}})

    assert call.outputs == (RequestedOutput("label", "BYTES", True), RequestedOutput("risk", "FP32", False))


def test_requests_with_other_parameters_of_their_own_are_not_put_together() -> None:
    groups = [
        read({"inputs": [{**ROWS, "parameters": tensor}], "parameters": request}).group
        for request in ({}, {"recipe": 1}, {"recipe": True}, {"recipe": "1"}, {"recipe": 1, "line": "A"})
        for tensor in ({}, {"content_type": "np"})
    ]
    again = read({"inputs": [ROWS], "parameters": {"line": "A", "recipe": 1, "timeout": 5, "priority": 1}}).group

    assert len(set(groups)) == len(groups)
    assert again in groups


def test_an_unknown_field_is_named_with_the_nearest() -> None:
    for body, field, meant in [
        ({"inputs": [], "output": []}, "output", "'outputs'"),
        ({"inputs": [{**ROWS, "dtype": "FP32"}]}, "inputs[0].dtype", "'datatype'"),
        ({"inputs": [ROWS], "outputs": [{"name": "risk", "parameter": {}}]}, "outputs[0].parameter", "'parameters'"),
    ]:
        error = refusal(body)
        assert isinstance(error, UnknownField)
        assert (error.details[0].field, error.details[0].accepted) == (field, f"{meant} was meant?")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"datatype": "FP64x"}, r"rows.datatype: given 'FP64x', accepted one of BOOL, BYTES"),
        ({"datatype": "BF16"}, r"rows.datatype: given 'BF16', accepted one of"),
        ({"shape": [2, 0]}, r"rows.shape\[1\]: given 0, accepted at least 1"),
        ({"shape": [1] * 65}, r"rows.shape: given 65 dimensions, accepted at most 64"),
        ({"shape": [2, -1]}, r"inputs\[0\].shape\[1\]"),
        ({"shape": [2.0, 2]}, r"inputs\[0\].shape\[0\]"),
        ({"shape": [2, 3]}, r"rows.data: given 4 elements, accepted 6 elements"),
        ({"shape": [2**40, 2**40]}, r"rows.data: given 4 elements"),
        ({"data": [1, 2, 3, True]}, r"rows.data\[3\]: given bool, accepted numbers"),
        ({"parameters": {"binary_data_size": 16}}, r"rows.data: given both data and parameters.binary_data_size"),
        ({"name": "rows", "datatype": "x" * 10_000}, r"rows.datatype: given 'x{116}\.\.\., accepted one of"),
        ({"parameters": {"k": None}}, r"inputs\[0\].parameters"),
        ({"parameters": {"k": {"nested": 1}}}, r"inputs\[0\].parameters"),
    ],
)
def test_an_input_that_is_not_what_it_says_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InferenceError, match=sentence):
        read({"inputs": [{**ROWS, **change}]})


def test_an_input_without_elements_or_named_twice_is_refused() -> None:
    without = {key: value for key, value in ROWS.items() if key != "data"}
    assert "rows.data: given nothing" in str(refusal({"inputs": [without]}))
    assert "accepted each input once" in str(refusal({"inputs": [ROWS, ROWS]}))


def test_names_and_the_number_of_inputs_are_bounded_before_they_cost_anything() -> None:
    many = [{**ROWS, "name": f"input{number}"} for number in range(11)]

    assert "inputs: given 11 inputs, accepted 2, as the model has" in str(refusal({"inputs": many}))
    assert "inputs[0].name" in str(refusal({"inputs": [{**ROWS, "name": "n" * 1025}]}))
    assert "at id" in str(refusal({"inputs": [ROWS], "id": "i" * 1025}))


def test_an_unknown_output_or_one_named_twice_is_refused() -> None:
    error = refusal({"inputs": [ROWS], "outputs": [{"name": "risc"}]})
    assert isinstance(error, InvalidValues)
    assert str(error.details[0]) == "outputs[0].name: given 'risc', accepted 'risk' was meant?"
    assert "each output once" in str(refusal({"inputs": [ROWS], "outputs": [{"name": "risk"}, {"name": "risk"}]}))


def test_the_server_says_what_triton_says_about_lengths() -> None:
    rows = {"name": "rows", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}

    short = refusal({"inputs": [rows]}, bytes(5))
    long = refusal({"inputs": [rows]}, bytes(9))
    headless = refusal({"inputs": [rows]})

    assert "unexpected size for input 'rows', expecting 3 additional bytes for model 'furnace/3'" in str(short)
    assert "unexpected additional input data for model 'furnace/3'" in str(long)
    assert "must specify valid 'Infer-Header-Content-Length' in request header" in str(headless)
    assert all(isinstance(error, MalformedBody) for error in (short, long, headless))


def test_the_header_length_is_a_number_within_the_body() -> None:
    assert read_header_length(None, 10) is None
    assert read_header_length(b"0", 10) == 0
    assert read_header_length(b"10", 10) == 10
    for value in (b"11", b"-1", b"1.5", b"", b"ten", b"9" * 5000, "²".encode("latin-1")):
        with pytest.raises(MalformedBody, match=r"inference header size should be in range \(0, 10\)"):
            read_header_length(value, 10)


# ---- raw binary requests ---------------------------------------------------------------------------------------------


def test_a_raw_binary_request_is_the_only_input_and_asks_for_binary_outputs() -> None:
    body = np.float32([1, 2, 3]).tobytes()

    call = read_infer(body, 0, KEY, one_input("FP32", "batch", 3))

    assert call.inputs["x"].tolist() == [[1, 2, 3]]
    assert call.outputs == (RequestedOutput("y", "FP32", True),)


def test_one_open_size_of_a_raw_binary_request_follows_from_the_body() -> None:
    body = np.int64([1, 2, 3, 4, 5, 6]).tobytes()

    assert read_infer(body, 0, KEY, one_input("INT64", "batch", "time", 2)).inputs["x"].shape == (1, 3, 2)
    assert read_infer(body, 0, KEY, one_input("INT64", None, 3)).inputs["x"].shape == (2, 3)
    assert read_infer(body[:8], 0, KEY, one_input("INT64")).inputs["x"].shape == ()


def test_a_raw_binary_string_has_no_length_before_it() -> None:
    assert read_infer("é".encode(), 0, KEY, one_input("BYTES", "batch", 1)).inputs["x"].tolist() == [["é"]]


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        (SIGNATURE, bytes(8)),
        (one_input("FP32", "batch", 3), bytes(8)),
        (one_input("FP32", "batch", 3), bytes(24)),
        (one_input("FP32", "batch", "time", "width"), bytes(8)),
        (one_input("INT64", "batch", "time", 2), bytes(15)),
        (one_input("FP32", 0, None), bytes(8)),
        (one_input("BYTES", "batch", 2), b"ab"),
        (one_input("BYTES", "batch"), b"\xff"),
        (Signature((TensorSpec("x", "FP32", (), ranked=False),), ()), bytes(4)),
    ],
)
def test_a_raw_binary_request_that_cannot_be_understood_is_refused(signature: Signature, body: bytes) -> None:
    with pytest.raises(InvalidTensor):
        read_infer(body, 0, KEY, signature)


# ---- answers ---------------------------------------------------------------------------------------------------------

ANSWER = {"risk": np.float32([[0.5], [0.1]]), "label": np.array(["bubble", "é"], object)}


def test_a_json_answer_byte_for_byte() -> None:
    call = read({"id": "7", "inputs": [ROWS]})

    assert write_infer(call, prediction(**ANSWER)) == (
        (
            b'{"model_name":"furnace","model_version":"3","outputs":['
            b'{"name":"risk","datatype":"FP32","shape":[2,1],"data":[0.5,0.10000000149011612]},'
            b'{"name":"label","datatype":"BYTES","shape":[2],"data":["bubble","\xc3\xa9"]}],"id":"7"}'
        ),
        None,
    )


def test_a_binary_answer_byte_for_byte() -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "risk"}]
    call = read({"inputs": [ROWS], "outputs": outputs})

    body, json_length = write_infer(call, prediction(**ANSWER))

    assert body[:json_length] == (
        b'{"model_name":"furnace","model_version":"3","outputs":['
        b'{"name":"label","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":16}},'
        b'{"name":"risk","datatype":"FP32","shape":[2,1],"data":[0.5,0.10000000149011612]}]}'
    )
    assert body[json_length:] == b"\6\0\0\0bubble\2\0\0\0\xc3\xa9"


def test_only_the_outputs_that_were_asked_for_are_in_the_answer() -> None:
    call = read({"inputs": [ROWS], "outputs": [{"name": "label"}]})

    body, _ = write_infer(call, prediction(**ANSWER))

    assert [output["name"] for output in json.loads(body)["outputs"]] == ["label"]


def test_nan_in_json_is_an_error_that_names_the_binary_form() -> None:
    answer = prediction(("risk",), risk=np.float32([[math.nan]]), label=ANSWER["label"])

    with pytest.raises(NonFiniteOutput, match=r"in output risk\. Ask for it as binary .*binary_data"):
        write_infer(read({"inputs": [ROWS]}), answer)


def test_nan_in_binary_or_in_an_output_that_nobody_asked_for_is_no_error() -> None:
    answer = prediction(("risk",), risk=np.float32([[math.nan], [-math.inf]]), label=ANSWER["label"])

    binary = read({"inputs": [ROWS], "parameters": {"binary_data_output": True}})
    label = read({"inputs": [ROWS], "outputs": [{"name": "label"}]})

    assert np.float32([math.nan, -math.inf]).tobytes() in write_infer(binary, answer)[0]
    assert b"bubble" in write_infer(label, answer)[0]


def test_fp16_goes_out_as_binary_only() -> None:
    signature = one_input("FP32", "batch", output="FP16")
    rows = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}

    error = refusal({"inputs": [rows]}, signature=signature)
    call = read({"inputs": [rows], "parameters": {"binary_data_output": True}}, signature=signature)

    assert "outputs.y.parameters.binary_data: given false, accepted true" in str(error)
    assert write_infer(call, prediction(y=np.float16([1])))[0].endswith(b'{"binary_data_size":2}}]}\x00<')


def test_an_empty_output_is_written() -> None:
    call = read({"inputs": [ROWS], "outputs": [{"name": "risk"}]})

    assert b'"shape":[0,1],"data":[]' in write_infer(call, prediction(risk=np.empty((0, 1), np.float32)))[0]


def test_metadata_byte_for_byte() -> None:
    assert write_server_metadata("glassai-inference", "0.1.0") == (
        b'{"name":"glassai-inference","version":"0.1.0","extensions":["binary_tensor_data","parameters"]}'
    )
    assert write_model_metadata("furnace", [2, 3], SIGNATURE) == (
        b'{"name":"furnace","versions":["2","3"],"platform":"onnxruntime_onnx",'
        b'"inputs":[{"name":"rows","datatype":"FP32","shape":[-1,2]},{"name":"glass","datatype":"BYTES","shape":[-1]}],'
        b'"outputs":[{"name":"risk","datatype":"FP32","shape":[-1,1]},'
        b'{"name":"label","datatype":"BYTES","shape":[-1]}]}'
    )
    assert write_object(name="furnace", ready=True) == b'{"name":"furnace","ready":true}'


# ---- whatever comes --------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["binary_data_size", "binary_data", "binary_data_output", "timeout", "priority", "own", "triton_x"]
    ),
    st.integers(-1, 40) | SCALARS,
    max_size=2,
)
MAYBE_INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["rows", "glass", "other"]) | SCALARS,
        "shape": st.lists(st.integers(-1, 5) | st.integers(), max_size=3) | SCALARS,
        "datatype": st.sampled_from(["FP32", "BYTES", "UINT8", "FP16", "BOOL"]) | SCALARS,
    },
    optional={"data": st.lists(st.integers(-9, 300) | SCALARS, max_size=6) | ANYTHING, "parameters": PARAMETERS},
)
MAYBE_REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(MAYBE_INPUT, max_size=3) | ANYTHING},
    optional={
        "id": SCALARS,
        "parameters": PARAMETERS | ANYTHING,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["risk", "label"]) | SCALARS})) | ANYTHING,
    },
)


@given(MAYBE_REQUEST, st.binary(max_size=40), st.booleans())
def test_whatever_looks_like_a_request_is_read_or_refused(body: Any, blob: bytes, binary: bool) -> None:
    text = json.dumps(body).encode()
    with contextlib.suppress(InferenceError):
        call = read_infer(text + blob, len(text) if binary else None, KEY, SIGNATURE)
        assert {output.name for output in call.outputs} <= {"risk", "label"}


@given(st.binary(max_size=100), st.none() | st.integers(0, 100))
def test_any_bytes_are_read_or_refused(body: bytes, header_length: int | None) -> None:
    length = None if header_length is None else min(header_length, len(body))
    with contextlib.suppress(InferenceError):
        assert read_infer(body, length, KEY, one_input("UINT8", "batch", None)).inputs.keys() <= {"x"}
