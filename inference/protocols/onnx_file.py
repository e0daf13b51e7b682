"""What an ONNX file says that ONNX Runtime does not tell: files it refers to, and tensors of open rank.

Reads the Protocol Buffers wire format (https://protobuf.dev/programming-guides/encoding) with the field numbers of
onnx.proto; weights are stepped over, not read. Pure: bytes in, facts out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

VARINT_BYTES_MAX = 10  # 64 bits, 7 a byte
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types; groups (3, 4) never stand in an ONNX file
GRAPH_FIELD, INPUT_FIELD, OUTPUT_FIELD = 7, 11, 12
FUNCTION_FIELD, OPERATOR_FIELD = 25, 4
CONTROL_FLOW = frozenset({b"If", b"Loop", b"Scan", b"SequenceMap"})
EXTERNAL_DATA_KEY = b"location"

# Message -> number of a field -> message in it: the ways from a model to a tensor and its external data.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {GRAPH_FIELD: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}

WireField = tuple[int, "memoryview | int"]


class OnnxFacts(msgspec.Struct, frozen=True):
    """`external_files`: sorted paths as the file writes them; `open_rank`: inputs, outputs declared without a shape;
    `control_flow`: some operator repeats or chooses by a value."""

    external_files: tuple[str, ...]
    open_rank: frozenset[str]
    control_flow: bool = False


def read_onnx(content: bytes) -> OnnxFacts:
    """The facts of an ONNX model. Raises ValueError with what is wrong if this is no whole ONNX file."""
    graph: memoryview | None = None
    for number, value in _fields(memoryview(content)):
        if number == GRAPH_FIELD and isinstance(value, memoryview):
            graph = value
    if graph is None:
        raise ValueError("it holds no graph")
    open_rank = set()
    for number, value in _fields(graph):
        if number in (INPUT_FIELD, OUTPUT_FIELD) and isinstance(value, memoryview):
            name, ranked = _declaration(value)
            if not ranked:
                open_rank.add(name)
    # Few models have external data; a search for the key's bytes is a thousand times faster than the walk.
    external = _external_files(memoryview(content)) if EXTERNAL_DATA_KEY in content else set()
    return OnnxFacts(tuple(sorted(external)), frozenset(open_rank), _has_control_flow(memoryview(content)))


def _has_control_flow(model: memoryview) -> bool:
    """Whether a node of the graph or of a function of the model is one of CONTROL_FLOW: all others hold no graph."""
    for holder_field, node_field in ((GRAPH_FIELD, 1), (FUNCTION_FIELD, 7)):
        for holder in _parts(model, holder_field):
            for node in _parts(holder, node_field):
                if any(bytes(operator) in CONTROL_FLOW for operator in _parts(node, OPERATOR_FIELD)):
                    return True
    return False


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Contents of the fields with this number."""
    return (value for number, value in _fields(message) if number == wanted and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[WireField]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("it is no ONNX file")
        if wire_type == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == LENGTH:
            size, position = _varint(message, position)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise ValueError("it is no ONNX file")
        if position + size > len(message):
            raise ValueError("it is cut short, or no ONNX file")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[position : position + VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError("it is cut short, or no ONNX file")


def _declaration(value_info: memoryview) -> tuple[str, bool]:
    """Name of an input or output, and whether it has a shape; what is no tensor counts as having one."""
    name, ranked = "", True
    for number, value in _fields(value_info):
        if number == 1 and isinstance(value, memoryview):
            name = bytes(value).decode(errors="replace")
        elif number == 2 and isinstance(value, memoryview):
            for kind, tensor_type in _fields(value):
                if kind == 1 and isinstance(tensor_type, memoryview):
                    ranked = any(part == 2 for part, _ in _fields(tensor_type))
    return name, ranked


def _external_files(model: memoryview) -> set[str]:
    found = set()
    waiting = [("model", model)]  # a stack of our own: subgraphs may be nested deeper than Python's
    while waiting:
        message, content = waiting.pop()
        if message == "external_data":
            entry = dict(_fields(content))
            location = entry.get(2)
            if isinstance(location, memoryview) and entry.get(1) == EXTERNAL_DATA_KEY:
                found.add(bytes(location).decode(errors="replace"))
            continue
        children = MESSAGES[message]
        waiting += [
            (children[number], value)
            for number, value in _fields(content)
            if number in children and isinstance(value, memoryview)
        ]
    return found
