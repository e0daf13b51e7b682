"""What an ONNX file says of external data and open ranks; and that no bytes at all can do harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from inference.protocols.onnx_file import OnnxFacts, read_onnx
from tests.inference import tiny_models

NOTHING_SPECIAL = OnnxFacts((), frozenset())
SMALL = helper.make_model(helper.make_graph([], "g", [tiny_models.tensor("x", [1])], [])).SerializeToString()


def external(name: str, location: str) -> TensorProto:
    """A weight that is kept in another file."""
    weight = tiny_models.constant(name, np.ones(4))
    onnx.external_data_helper.set_external_data(weight, location, offset=0, length=16)
    weight.ClearField("raw_data")
    return weight


def facts_or_refusal(content: bytes) -> OnnxFacts | str:
    """The facts, or what the ValueError says; any other error is a fault."""
    try:
        return read_onnx(content)
    except ValueError as error:
        return str(error)


def test_an_ordinary_model_has_nothing_special(tmp_path: Path) -> None:
    for builder in (tiny_models.adder, tiny_models.string_model, tiny_models.sequence_output):
        assert read_onnx(builder(tmp_path / "model.onnx").read_bytes()) == NOTHING_SPECIAL


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan", "SequenceMap"])
def test_what_repeats_or_chooses_is_control_flow_in_the_graph_and_in_functions(operator: str) -> None:
    inner = helper.make_graph([], "inner", [], [])
    node = helper.make_node(operator, ["x"], ["y"], body=inner)
    plain = helper.make_node("Relu", ["x"], ["y"], name=operator)  # a name is no operator
    call = helper.make_node("own", ["x"], ["y"], domain="local")
    imports = [helper.make_opsetid("", 17)]

    def facts(node: onnx.NodeProto, function: onnx.NodeProto) -> OnnxFacts:
        functions = [helper.make_function("local", "own", ["x"], ["y"], [function], imports)]
        model = helper.make_model(helper.make_graph([node], "g", [], []), functions=functions)
        return read_onnx(model.SerializeToString())

    assert facts(node, plain).control_flow
    assert facts(call, node).control_flow
    assert not facts(plain, plain).control_flow


def test_a_scalar_has_a_rank_and_an_open_rank_has_none(tmp_path: Path) -> None:
    assert read_onnx(tiny_models.scalar(tmp_path / "model.onnx").read_bytes()).open_rank == frozenset()
    assert read_onnx(tiny_models.open_rank(tmp_path / "model.onnx").read_bytes()).open_rank == {"x", "y"}


def test_external_data_of_a_weight_is_found(tmp_path: Path) -> None:
    content = tiny_models.external_data(tmp_path / "model.onnx", "parts/weights.bin").read_bytes()
    assert read_onnx(content).external_files == ("parts/weights.bin",)


def test_external_data_is_found_wherever_a_tensor_can_stand() -> None:
    """In an initializer, an attribute, a subgraph, a sparse weight and a function; each file is named once."""
    inner = helper.make_graph([], "inner", [], [], [external("w", "subgraph.bin")])
    sparse = helper.make_sparse_tensor(external("values", "sparse.bin"), external("indices", "weight.bin"), [4])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=external("v", "attribute.bin")),
        helper.make_node("If", ["c"], ["i"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(nodes, "outer", [], [], [external("w", "weight.bin")], sparse_initializer=[sparse])
    body = helper.make_node("Constant", [], ["y"], value=external("f", "function.bin"))
    function = helper.make_function("own", "F", [], ["y"], [body], [helper.make_opsetid("", 17)])
    content = helper.make_model(graph, functions=[function]).SerializeToString()
    names = ("attribute", "function", "sparse", "subgraph", "weight")
    assert read_onnx(content).external_files == tuple(f"{name}.bin" for name in names)


def test_the_word_location_alone_means_nothing() -> None:
    graph = helper.make_graph([], "location", [], [])
    assert read_onnx(helper.make_model(graph, doc_string="location").SerializeToString()) == NOTHING_SPECIAL


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it holds no graph"),
        (helper.make_model(helper.make_graph([], "", [], [])).SerializeToString()[:-3], "it is cut short"),
        (b"this is no model", "it is "),
        (b"\x00\x00", "it is no ONNX file"),
        (b"\x0b", "it is no ONNX file"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "it is cut short, or no ONNX file"),
        (b"\x08", "it is cut short, or no ONNX file"),
    ],
)
def test_what_is_no_whole_model_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_onnx(content)


@given(st.binary(max_size=200))
@example(SMALL)
def test_any_bytes_are_facts_or_a_value_error(content: bytes) -> None:
    assert isinstance(facts_or_refusal(content), (OnnxFacts, str))


@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=12))
def test_a_model_with_other_bytes_in_it_is_facts_or_a_value_error(place: int, patch: bytes) -> None:
    content = SMALL[:place] + patch + b"location" + SMALL[place + len(patch) :]
    assert isinstance(facts_or_refusal(content), (OnnxFacts, str))
