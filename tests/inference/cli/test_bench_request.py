"""The request made from a model's metadata, and the words for what cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference.cli.bench_request import (
    BenchImpossible,
    Metadata,
    MetadataTensor,
    address_of,
    build_request,
    headers_of,
    request_from_body,
    request_of,
    shown,
)
from inference.model import ModelKey, Signature
from inference.protocols.open_inference import read_infer
from inference.tensor import DTYPES, Tensors, TensorSpec

KEY = ModelKey("m", 1)


def metadata(*inputs: tuple[str, str, list[int]]) -> Metadata:
    return Metadata("m", [MetadataTensor(*spec) for spec in inputs])


def read_back(given: Metadata) -> Tensors:
    """The tensors that the server's own reader finds in the request."""
    request = build_request(given)
    shape = {spec.name: tuple(None if size < 0 else size for size in spec.shape) for spec in given.inputs}
    inputs = tuple(TensorSpec(spec.name, spec.datatype, shape[spec.name]) for spec in given.inputs)
    length = dict(request.headers).get("Inference-Header-Content-Length")
    return read_infer(request.body, None if length is None else int(length), KEY, Signature(inputs, ())).inputs


def test_a_small_input_goes_as_json_with_open_sizes_of_one() -> None:
    request = build_request(metadata(("x", "FP32", [-1, 32, 3])))
    (tensor,) = json.loads(request.body)["inputs"]
    assert (tensor["shape"], tensor["datatype"], len(tensor["data"])) == ([1, 32, 3], "FP32", 96)
    assert request.path == "/v2/models/m/infer"
    assert request.words.startswith("x FP32 [1, 32, 3] as JSON, ")
    assert max(len(repr(value)) for value in tensor["data"]) <= 6


def test_a_large_input_goes_in_binary_form() -> None:
    request = build_request(metadata(("pixels", "UINT8", [-1, 64, 64, 3])))
    headers = dict(request.headers)
    assert headers["Content-Type"] == "application/octet-stream"
    assert len(request.body) == int(headers["Inference-Header-Content-Length"]) + 64 * 64 * 3


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
@pytest.mark.parametrize("shape", [[-1, 4], [-1, 2000]])
def test_the_server_reads_what_is_built(datatype: str, shape: list[int]) -> None:
    read = read_back(metadata(("x", datatype, shape)))["x"]
    assert read.dtype == DTYPES[datatype]
    assert read.shape == (1, shape[1])
    assert np.isfinite(read.astype(np.float64)).all()


def test_texts_and_numbers_go_together() -> None:
    read = read_back(metadata(("t", "BYTES", [-1, 2]), ("x", "FP32", [-1, 2000])))
    assert read["t"].shape == (1, 2)
    assert read["x"].shape == (1, 2000)


def test_the_same_metadata_gives_the_same_request() -> None:
    assert build_request(metadata(("x", "FP32", [-1, 3]))) == build_request(metadata(("x", "FP32", [-1, 3])))


def test_a_datatype_nobody_knows_is_named() -> None:
    with pytest.raises(BenchImpossible, match="'x' has datatype 'FP8'"):
        build_request(metadata(("x", "FP8", [1])))


def test_a_request_is_whole_on_the_wire() -> None:
    raw = request_from_body("a b", b"{}", (("X-Priority", "high"),)).raw("::1", 9000)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v2/models/a%20b/infer HTTP/1.1",
        b"Host: ::1:9000",
        b"Content-Type: application/json",
        b"X-Priority: high",
        b"Content-Length: 2",
    ]
    assert body == b"{}"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("http://plant.example/", ("plant.example", 80)),
        ("localhost:8001", ("localhost", 8001)),
    ],
)
def test_an_address_is_read_from_its_url(url: str, address: tuple[str, int]) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url", ["https://here", "ftp://here", "http://here/v2", "http://", "http://h:99999", "http://h?x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BenchImpossible, match=r"accepted http://HOST\[:PORT\]"):
        address_of(url)


def test_headers_are_pairs() -> None:
    assert headers_of(["X-Priority: high", "a:b:c"]) == (("X-Priority", "high"), ("a", "b:c"))
    for wrong in ("X-Priority", ": high", "a: b\r\nc: d"):
        with pytest.raises(BenchImpossible, match="accepted 'Name: value'"):
            headers_of([wrong])


def test_a_missing_body_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchImpossible, match=r"none\.json' cannot be read \(No such file"):
        request_of("h", 1, "m", tmp_path / "none.json", ())


def test_an_answer_is_shown_by_its_error() -> None:
    assert shown(b'{"error": "no such model"}') == "no such model"
    assert shown(b"<html>") == "<html>"
    assert len(shown(b"x" * 10_000)) < 1000
