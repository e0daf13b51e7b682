"""The product's JSON, byte for byte, and what is said of bodies that are something else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import CallerError, InvalidValues, MalformedBody, ModelNotFound, QueueFull, UnknownField
from inference.errors import Fault as FieldFault
from inference.protocols.inference_json import (
    DefectProbability,
    DefectType,
    StreamAnswer,
    StreamCall,
    decode_call,
    encode_answer,
    encode_error,
    version_number,
)

SOURCE_DOCUMENT = b"""{
  "model_name": "lstm_defect_predictor",
  "data": {
    "timestamp": "2025-12-05T10:00:00Z",
    "furnace_temperature": 1550.0,
    "belt_speed": 150.0,
    "pressure": 15.5
  }
}"""


def test_the_source_documents_own_request_is_read() -> None:
    call = decode_call(SOURCE_DOCUMENT)
    assert call.model_name == "lstm_defect_predictor"
    assert call.data == json.loads(SOURCE_DOCUMENT)["data"]
    assert (call.version, call.stream_id) == (None, None)


@pytest.mark.parametrize("given", ["2", 2, "02"])
def test_a_version_is_a_number_or_its_digits(given: object) -> None:
    body = msgspec.json.encode({"model_name": "m", "model_version": given, "data": {}, "stream_id": "L1"})
    call = decode_call(body)
    assert (call.version, call.stream_id) == (2, "L1")


@pytest.mark.parametrize("given", ["", "one", "1.0", "-1", "²", " 1", "9" * 30, -1, 10**30])
def test_any_other_version_is_refused(given: str | int) -> None:
    with pytest.raises(MalformedBody) as caught:
        version_number(given)
    assert caught.value.details[0].field == "model_version"


@pytest.mark.parametrize(
    ("body", "field", "accepted"),
    [
        (b"[]", "the body", "of type object"),
        (b"{}", "model_name", "the name of a model, as text"),
        (b'{"model_name":"m"}', "data", "an object with the values for the model"),
        (b'{"model_name":1,"data":{}}', "model_name", "the name of a model, as text"),
        (b'{"model_name":"m","data":[1]}', "data", "an object with the values for the model"),
        (b'{"model_name":"m","data":{},"model_version":1.5}', "model_version", "a version number, as text or integer"),
        (b'{"model_name":"m","data":{},"stream_id":7}', "stream_id", "the name of a production line, as text"),
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_named(body: bytes, field: str, accepted: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        decode_call(body)
    (fault,) = caught.value.details
    assert (fault.field, fault.accepted) == (field, accepted)


def test_an_unknown_field_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownField) as caught:
        decode_call(b'{"model_name":"m","data":{},"stream_ID":"L1"}')
    assert caught.value.details == (FieldFault("stream_ID", "an unknown field", "'stream_id' was meant?"),)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (SOURCE_DOCUMENT[:60], "truncated"),
        (b'{"model_name":"m","data":{"pressure":NaN}}', "byte 37"),
        (b'{"model_name":"m","data":{"pressure":Infinity}}', "byte 37"),
        (b'{"model_name":"m","data":{"pressure":1e999}}', "out of range"),
        (b'{"model_name":"m","data":{}}}', "trailing"),
        (b'{"model_name":"\xff","data":{}}', "not UTF-8"),
        (b"\x89PNG", "byte 0"),
        (b"model_name=m", "byte 0"),
        (b'{"model_name":"m","data":{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"model_name":"m","data":' + b'{"x":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(body: bytes, part: str) -> None:
    with pytest.raises(MalformedBody, match=part):
        decode_call(body)


def test_an_answer_has_the_source_documents_fields_first() -> None:
    result = DefectProbability(0.85, 0.92, 0.4, "defect", 1.0, 32)
    assert encode_answer("pred_1", "lstm_defect_predictor", 1, result) == (
        b'{"prediction_id":"pred_1","model_name":"lstm_defect_predictor","model_version":"1","result":'
        b'{"defect_probability":0.85,"confidence":0.92,"processing_time_ms":0.4,'
        b'"decision":"defect","input_quality":1.0,"real_rows":32}}'
    )


def test_an_answer_of_classes() -> None:
    result = DefectType("bubble", 0.95, {"none": 0.05, "bubble": 0.95}, 3.1)
    assert encode_answer("pred_1", "vit", 2, result) == (
        b'{"prediction_id":"pred_1","model_name":"vit","model_version":"2","result":'
        b'{"defect_type":"bubble","confidence":0.95,"probabilities":{"none":0.05,"bubble":0.95},'
        b'"processing_time_ms":3.1}}'
    )


def test_an_answer_of_a_model_without_a_meaning() -> None:
    body = encode_answer("pred_1", "adder", 1, {"y": [[2.0]]})
    answer = msgspec.json.decode(body, type=StreamAnswer[dict[str, list[list[float]]]])
    assert answer.result == {"y": [[2.0]]}


def test_an_error_has_a_sentence_a_code_and_details() -> None:
    error = InvalidValues([FieldFault("data.pressure", "nothing", "a number from 0 to 40 Pa")])
    assert encode_error(error) == (
        b'{"error":"Invalid values: data.pressure: given nothing, accepted a number from 0 to 40 Pa.",'
        b'"reason":"invalid_values",'
        b'"details":[{"field":"data.pressure","given":"nothing","accepted":"a number from 0 to 40 Pa"}]}'
    )
    assert json.loads(encode_error(QueueFull("m/1", "rows", 9, 9, 1.0)))["details"] == []


def test_an_error_quotes_text_that_json_has_to_escape() -> None:
    assert json.loads(encode_error(ModelNotFound('a"\n\x00é', [])))["reason"] == "model_not_found"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_a_callers_error(body: bytes) -> None:
    try:
        call = decode_call(body)
    except CallerError as error:
        encode_error(error)
    else:
        assert isinstance(call, StreamCall)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_in_data_is_left_to_the_model(values: object) -> None:
    body = json.dumps({"model_name": "m", "data": {"x": values}}).encode()
    assert decode_call(body).data == {"x": json.loads(json.dumps(values))}
