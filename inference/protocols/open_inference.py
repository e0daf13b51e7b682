"""The Open Inference Protocol v2 over REST, as bytes: requests read, answers and metadata written.

After the protocol's "required API" and Triton's extensions `binary_tensor_data` and `parameters`. A field that nobody
reads is refused, with the nearest one that is read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from inference.errors import InvalidTensor, InvalidValues, MalformedBody, NonFiniteOutput
from inference.fault import Fault, nearest, one_of, quoted
from inference.model import ModelKey, Signature
from inference.protocols.infer_parameters import (
    CallParameters,
    OwnParameters,
    Parameters,
    Scalar,
    read_call,
    read_input,
    read_output,
)
from inference.protocols.json_body import read_json
from inference.protocols.wire_tensor import NO_JSON_FORM, WireTensor, to_binary, to_json
from inference.request import Prediction
from inference.tensor import DTYPES, Tensors, TensorSpec, element_count

EXTENSIONS = ("binary_tensor_data", "parameters")
PLATFORM = "onnxruntime_onnx"
DIMENSIONS_MAX = 64  # numpy's
NAME_CHARS_MAX = 1024  # of names and ids, which come back in answers and errors
DECLARED_KEPT = 256  # inputs as they were declared last; 2 KiB each at most, with the longest name and all dimensions
UNKNOWN_INPUTS_MAX = 8  # that are named one by one, each with the nearest known name

Size = Annotated[int, Meta(ge=0, le=2**40)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]


class WireInput(msgspec.Struct, forbid_unknown_fields=True):
    """One input of a request: its elements are in `data`, or behind the JSON where `binary_data_size` says so."""

    name: Name
    shape: list[Size]
    datatype: str
    parameters: Parameters | None = None
    data: Raw | UnsetType = UNSET


class WireRequestedOutput(msgspec.Struct, forbid_unknown_fields=True):
    """One output that the caller wants."""

    name: Name
    parameters: Parameters | None = None


class WireRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of an inference request."""

    inputs: list[WireInput]
    id: Name | None = None
    parameters: Parameters | None = None
    outputs: list[WireRequestedOutput] | None = None


class WireOutput(msgspec.Struct):
    """One output of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class WireAnswer(msgspec.Struct):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    outputs: list[WireOutput]
    id: str | UnsetType = UNSET


class RequestedOutput(NamedTuple):
    """An output of the answer, and whether it comes as binary."""

    name: str
    datatype: str
    binary: bool


class InferCall(msgspec.Struct, frozen=True, eq=False):
    """An inference request as it was meant. `id` is "" if the caller gave none."""

    id: str
    inputs: Tensors
    outputs: tuple[RequestedOutput, ...]
    parameters: CallParameters
    own_parameters: tuple[tuple[str, Scalar], ...] = ()

    @property
    def group(self) -> Hashable:
        """Equal for requests whose own parameters are equal; true and 1 are not."""
        own = self.own_parameters
        return tuple(sorted((key, repr(value)) for key, value in own)) if own else own


_EXPECTED = "an Open Inference Protocol request, {inputs: [{name, shape, datatype, data}]}"
_OBJECTS: dict[str, type[msgspec.Struct]] = {"": WireRequest, "inputs": WireInput, "outputs": WireRequestedOutput}
_DECODER = msgspec.json.Decoder(WireRequest)
_ENCODER = msgspec.json.Encoder()
_NO_PARAMETERS = CallParameters()
_NO_HEADER_LENGTH = (
    "must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when passing inputs in "
    "binary data format"
)


def read_header_length(value: bytes | None, body_bytes: int) -> int | None:
    """The length of the JSON in bytes as `Inference-Header-Content-Length` says, or None without that header.

    Raises MalformedBody unless it is a whole number from 0 to the body's length.
    """
    if value is None:
        return None
    if value.isdigit() and len(value) <= 18 and int(value) <= body_bytes:
        return int(value)
    given = quoted(value.decode("latin-1"))
    fault = f"inference header size should be in range (0, {body_bytes}), got: {given}"
    accepted = f"a whole number from 0 to {body_bytes}, the length of the body in bytes"
    raise MalformedBody(fault, accepted, [Fault("Inference-Header-Content-Length", given, accepted)])


def read_infer(body: bytes, header_length: int | None, model: ModelKey, signature: Signature) -> InferCall:
    """An inference request. `header_length` 0 means a raw binary request: the body is the only input's elements.

    The arrays fit what the request declares; whether that fits the signature is for `Signature.check` to say. Raises
    MalformedBody, UnknownField, InvalidTensor, InvalidValues or Unsupported.
    """
    if header_length == 0 and body:
        return _read_raw(body, model, signature)
    text = body if header_length is None else memoryview(body)[:header_length]
    wire = read_json(_DECODER, text, _EXPECTED, _OBJECTS)
    own: OwnParameters = []
    parameters = read_call(wire.parameters, own) if wire.parameters else _NO_PARAMETERS
    if len(wire.inputs) > len(signature.inputs) + UNKNOWN_INPUTS_MAX:
        fault = Fault("inputs", f"{len(wire.inputs)} inputs", f"{len(signature.inputs)}, as the model has")
        raise InvalidTensor(str(model), [fault])
    inputs = _read_inputs(wire.inputs, body, header_length, model, own)
    outputs = _read_outputs(wire.outputs, parameters.binary_outputs, signature, own)
    if len(inputs) > 1:  # in one order, so that requests of one kind share a Batch
        order = {spec.name: place for place, spec in enumerate(signature.inputs)}
        inputs = dict(sorted(inputs.items(), key=lambda item: order.get(item[0], len(order))))
    return InferCall(wire.id or "", inputs, outputs, parameters, tuple(own))


def write_infer(call: InferCall, prediction: Prediction) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON in bytes if binary outputs follow it, else None.

    Raises NonFiniteOutput if an output that goes out as JSON holds NaN or infinity.
    """
    if prediction.non_finite:
        _refuse_non_finite(call, prediction)
    outputs: list[WireOutput] = []
    blobs: list[bytes] = []
    for name, datatype, binary in call.outputs:
        array = prediction.outputs[name]
        if binary:
            blobs.append(to_binary(array))
            outputs.append(WireOutput(name, datatype, array.shape, {"binary_data_size": len(blobs[-1])}))
        else:
            outputs.append(WireOutput(name, datatype, array.shape, UNSET, to_json(array)))
    model = prediction.model
    text = _ENCODER.encode(WireAnswer(model.name, str(model.version), outputs, call.id or UNSET))
    return (b"".join((text, *blobs)), len(text)) if blobs else (text, None)


def write_server_metadata(name: str, version: str) -> bytes:
    """The body of GET /v2."""
    return _ENCODER.encode({"name": name, "version": version, "extensions": EXTENSIONS})


def write_model_metadata(name: str, versions: Sequence[int], signature: Signature) -> bytes:
    """The body of GET /v2/models/{name}; a size that is not fixed, the batch's with them, is -1."""
    return _ENCODER.encode(
        {
            "name": name,
            "versions": [str(version) for version in versions],
            "platform": PLATFORM,
            "inputs": [_tensor_metadata(spec) for spec in signature.inputs],
            "outputs": [_tensor_metadata(spec) for spec in signature.outputs],
        }
    )


def write_object(**fields: str | bool) -> bytes:
    """A flat JSON object: health bodies and errors."""
    return _ENCODER.encode(fields)


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.protocol_shape}


# ---- inputs ----------------------------------------------------------------------------------------------------------


def _read_inputs(
    wires: list[WireInput], body: bytes, header_length: int | None, model: ModelKey, own: OwnParameters
) -> Tensors:
    tensors: Tensors = {}
    place = len(body) if header_length is None else header_length
    for index, wire in enumerate(wires):
        if wire.name in tensors:
            raise InvalidTensor(str(model), [Fault(f"inputs[{index}].name", quoted(wire.name), "each input once")])
        declared = _declared(model, wire.name, wire.datatype, tuple(wire.shape))
        size = read_input(wire.parameters, wire.name, own) if wire.parameters else None
        if size is not None and wire.data is UNSET:
            _check_blob(declared, place + size, len(body), header_length)
            tensors[wire.name] = declared.from_binary(memoryview(body)[place : place + size])
            place += size
        elif size is None and wire.data is not UNSET:
            tensors[wire.name] = declared.from_json(wire.data)
        else:
            given = "nothing" if size is None else "both data and parameters.binary_data_size"
            raise declared.refused("data", given, "its elements, or parameters.binary_data_size")
    if place != len(body):
        fault = f"unexpected additional input data for model {str(model)!r}"
        raise MalformedBody(fault, f"{place} bytes, as the request says; given {len(body)}")
    return tensors


def _check_blob(tensor: WireTensor, end: int, body_bytes: int, header_length: int | None) -> None:
    if header_length is None:
        raise MalformedBody(_NO_HEADER_LENGTH, "the length of the JSON in Inference-Header-Content-Length")
    if end > body_bytes:
        missed = f"expecting {end - body_bytes} additional bytes for model {str(tensor.model)!r}"
        fault = f"unexpected size for input {quoted(tensor.name)}, {missed}"
        raise MalformedBody(fault, "the bytes of each binary input behind the JSON, in the order of the inputs")


@lru_cache(DECLARED_KEPT)
def _declared(model: ModelKey, name: str, datatype: str, shape: tuple[int, ...]) -> WireTensor:
    """An input as it was declared, once that is known to be possible. Raises InvalidTensor."""
    tensor = WireTensor(model, name, datatype, shape)
    if datatype not in DTYPES:
        raise tensor.refused("datatype", quoted(datatype), one_of(DTYPES))
    if len(shape) > DIMENSIONS_MAX:
        raise tensor.refused("shape", f"{len(shape)} dimensions", f"at most {DIMENSIONS_MAX}")
    if 0 in shape:
        raise tensor.refused(f"shape[{shape.index(0)}]", "0", "at least 1")
    return tensor


def _read_raw(body: bytes, model: ModelKey, signature: Signature) -> InferCall:
    """The raw binary request: one input, a batch of 1, at most one other size to be found out, all outputs binary."""
    if len(signature.inputs) != 1:
        accepted = f"the length of the JSON, since the model has {len(signature.inputs)} inputs"
        raise InvalidTensor(str(model), [Fault("Inference-Header-Content-Length", "0", accepted)])
    spec = signature.inputs[0]
    shape = spec.protocol_shape
    if signature.batch_axis() is not None:
        shape[0] = 1
    open_sizes = shape.count(-1)
    if open_sizes > 1 or not spec.ranked:
        accepted = f"a JSON header that says the shape, since {shape if spec.ranked else 'any'} leaves it open"
        raise InvalidTensor(str(model), [Fault(f"{spec.name}.shape", "a raw binary request", accepted)])
    if spec.datatype == "BYTES":  # the whole body is the one string, without a length before it
        shape = [abs(size) for size in shape]
        body = len(body).to_bytes(4, "little") + body
    elif open_sizes:
        rest_bytes = element_count([max(1, size) for size in shape]) * DTYPES[spec.datatype].itemsize
        shape[shape.index(-1)] = max(1, len(body) // rest_bytes)
    array = WireTensor(model, spec.name, spec.datatype, tuple(shape)).from_binary(memoryview(body))
    outputs = tuple(RequestedOutput(spec.name, spec.datatype, True) for spec in signature.outputs)
    return InferCall("", {spec.name: array}, outputs, _NO_PARAMETERS)


# ---- outputs ---------------------------------------------------------------------------------------------------------


def _read_outputs(
    wires: list[WireRequestedOutput] | None,
    binary_default: bool,
    signature: Signature,
    own: OwnParameters,
) -> tuple[RequestedOutput, ...]:
    """The outputs wanted, in the caller's order; none named means all."""
    if not wires:
        return _all_outputs(signature.outputs, binary_default)
    outputs = _named_outputs(wires, binary_default, signature, own)
    _check_json_forms(outputs)
    return outputs


@lru_cache(DECLARED_KEPT)
def _all_outputs(specs: tuple[TensorSpec, ...], binary: bool) -> tuple[RequestedOutput, ...]:
    outputs = tuple([RequestedOutput(spec.name, spec.datatype, binary) for spec in specs])
    _check_json_forms(outputs)
    return outputs


def _check_json_forms(outputs: Sequence[RequestedOutput]) -> None:
    for name, datatype, binary in outputs:
        if datatype in NO_JSON_FORM and not binary:
            accepted = f"true, or parameters.binary_data_output of the request: {datatype} has no JSON form"
            raise InvalidValues([Fault(f"outputs.{name}.parameters.binary_data", "false", accepted)])


def _named_outputs(
    wires: list[WireRequestedOutput], binary_default: bool, signature: Signature, own: OwnParameters
) -> tuple[RequestedOutput, ...]:
    chosen: dict[str, RequestedOutput] = {}
    known = {spec.name: spec.datatype for spec in signature.outputs}
    for index, wire in enumerate(wires):
        datatype = known.get(wire.name)
        if datatype is None or wire.name in chosen:
            hint = nearest(wire.name, known)
            accepted = "each output once" if datatype else f"{hint!r} was meant?" if hint else one_of(known)
            raise InvalidValues([Fault(f"outputs[{index}].name", quoted(wire.name), accepted)])
        binary = read_output(wire.parameters, wire.name, binary_default, own) if wire.parameters else binary_default
        chosen[wire.name] = RequestedOutput(wire.name, datatype, binary)
    return tuple(chosen.values())


def _refuse_non_finite(call: InferCall, prediction: Prediction) -> None:
    names = [output.name for output in call.outputs if not output.binary and output.name in prediction.non_finite]
    if names:
        instead = "Ask for it as binary (outputs[].parameters.binary_data: true), which carries it as it is."
        raise NonFiniteOutput(str(prediction.model), names, instead)
