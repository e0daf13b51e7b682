"""The clients that people have, against a server as an operator starts it."""

from __future__ import annotations

import functools
import gzip
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from inference.tensor import DTYPES
from tests.inference import tiny_models
from tests.inference.counting_relay import CountingRelay
from tests.inference.live_server import LiveServer, Reply

BUILDERS = {
    ("adder", 1): tiny_models.adder,
    ("adder", 2): functools.partial(tiny_models.adder, step=2.0),
    ("two_inputs", 1): tiny_models.two_inputs,
    ("strings", 1): tiny_models.string_model,
    ("scalar", 1): tiny_models.scalar,
    ("logarithm", 1): tiny_models.nan_model,
    ("touchy", 1): tiny_models.fails_on,
    ("slow", 1): tiny_models.slow,
    ("open_rank", 1): tiny_models.open_rank,
    ("broken", 1): tiny_models.corrupt,
    **{(datatype, 1): functools.partial(tiny_models.all_types, datatype=datatype) for datatype in DTYPES},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("models")
    for (name, version), builder in BUILDERS.items():
        tiny_models.package(folder, name, version, builder)
    with LiveServer(folder, env={"GLASSAI_MODELS_VERSIONS": "all"}) as server:
        yield server


@pytest.fixture
def client(server: LiveServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(name: str, values: Any, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    array = np.asarray(values, DTYPES[datatype])
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def as_json(name: str, values: Any, datatype: str = "FP32") -> dict[str, Any]:
    array = np.asarray(values, DTYPES[datatype])
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def ask(server: LiveServer, model: str, *inputs: dict[str, Any], **fields: Any) -> Reply:
    return server.post(f"/v2/models/{model}/infer", {"inputs": list(inputs), **fields})


def refused(call: functools.partial[Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


# ---- Triton's client: health and metadata ----------------------------------------------------------------------------


def test_health(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("adder")
    assert client.is_model_ready("adder", "1")
    assert not client.is_model_ready("adder", "3")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("broken")


def test_metadata(client: triton.InferenceServerClient) -> None:
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "parameters"]
    assert client.get_model_metadata("two_inputs") == {
        "name": "two_inputs",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("a", "b")],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("sum", "product")],
    }
    assert client.get_model_metadata("adder", "1")["versions"] == ["1", "2"]


def test_a_hundred_health_calls_take_one_connection(server: LiveServer) -> None:
    with CountingRelay(server.port) as relay:
        with triton.InferenceServerClient(f"127.0.0.1:{relay.port}") as client:
            for _ in range(25):
                assert client.is_server_live()
                assert client.is_server_ready()
                assert client.is_model_ready("adder")
                assert not client.is_model_ready("nothing")

        assert relay.connections == 1


# ---- Triton's client: inference --------------------------------------------------------------------------------------

SAMPLES: dict[str, Any] = {
    "BOOL": [[True, False, True]],
    "BYTES": [["", "glass", "verre trempé"]],
    "FP16": [[0.5, -65504, math.inf]],
    "FP32": [[0.1, -3.4028234663852886e38, 1e-45]],
    "FP64": [[0.1, -1.7976931348623157e308, 5e-324]],
}
for name in DTYPES.keys() - SAMPLES.keys():
    limits = np.iinfo(DTYPES[name])
    SAMPLES[name] = [[limits.min, 1, limits.max]]


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_every_datatype_comes_back_as_it_went(client: triton.InferenceServerClient, datatype: str) -> None:
    sent = np.array(SAMPLES[datatype], DTYPES[datatype])

    result = client.infer(datatype, [tensor("x", sent, datatype)])
    answered = result.as_numpy("y")

    if datatype == "BYTES":
        answered = np.vectorize(bytes.decode, otypes=[object])(answered)
    assert answered.dtype == sent.dtype
    assert answered.tolist() == sent.tolist()


@pytest.mark.parametrize("datatype", sorted(DTYPES.keys() - {"FP16"}))
def test_every_datatype_but_fp16_comes_back_as_json(client: triton.InferenceServerClient, datatype: str) -> None:
    sent = np.array(SAMPLES[datatype], DTYPES[datatype])
    output = triton.InferRequestedOutput("y", binary_data=False)

    result = client.infer(datatype, [tensor("x", sent, datatype, binary=False)], outputs=[output])

    assert result.as_numpy("y").tolist() == sent.tolist()
    assert result.get_output("y")["datatype"] == datatype


def test_fp16_as_json_is_refused_with_the_way_to_get_it(
    server: LiveServer, client: triton.InferenceServerClient
) -> None:
    sent = ask(server, "FP16", as_json("x", [[1, 2, 3]], "FP16"))
    output = triton.InferRequestedOutput("y", binary_data=False)
    status, text = refused(
        functools.partial(client.infer, "FP16", [tensor("x", [[1, 2, 3]], "FP16")], outputs=[output])
    )

    assert (sent.status, "parameters.binary_data_size" in sent.json["error"]) == (400, True)
    assert (status, "outputs.y.parameters.binary_data: given false, accepted true" in text) == ("400", True)


def test_several_inputs_and_chosen_outputs(client: triton.InferenceServerClient) -> None:
    inputs = [tensor("b", [[3, 4]]), tensor("a", [[1, 2]], binary=False)]
    outputs = [triton.InferRequestedOutput("product"), triton.InferRequestedOutput("sum", binary_data=False)]

    result = client.infer("two_inputs", inputs, outputs=outputs, request_id="r-1")

    assert result.as_numpy("product").tolist() == [[3, 8]]
    assert result.as_numpy("sum").tolist() == [[4, 6]]
    assert result.get_response()["id"] == "r-1"
    assert [output["name"] for output in result.get_response()["outputs"]] == ["product", "sum"]


def test_the_highest_version_answers_unless_one_is_named(client: triton.InferenceServerClient) -> None:
    newest = client.infer("adder", [tensor("x", [[1]])])
    named = client.infer("adder", [tensor("x", [[1]])], model_version="1")

    assert (newest.as_numpy("y").item(), newest.get_response()["model_version"]) == (3, "2")
    assert (named.as_numpy("y").item(), named.get_response()["model_version"]) == (2, "1")


def test_strings_and_scalars(client: triton.InferenceServerClient) -> None:
    labels = client.infer("strings", [tensor("name", ["crack", "none", "?"], "BYTES")])
    double = client.infer("scalar", [tensor("x", 2.5)])

    assert labels.as_numpy("label").tolist() == [2, 0, -1]
    assert labels.as_numpy("echo").tolist() == [b"crack", b"none", b"?"]
    assert double.as_numpy("y").shape == ()
    assert double.as_numpy("y").item() == 5


def test_a_model_that_declares_no_dimensions_takes_any(client: triton.InferenceServerClient) -> None:
    for values in (1.0, [1.0, 2.0], [[[1.0]], [[2.0]]]):
        answered = client.infer("open_rank", [tensor("x", values)]).as_numpy("y")
        assert answered.tolist() == np.negative(values).tolist()


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wanted", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression_both_ways(
    client: triton.InferenceServerClient, sent: str | None, wanted: str | None, binary: bool
) -> None:
    rows = np.arange(3000, dtype=np.float32).reshape(1000, 3)

    result = client.infer(
        "FP32",
        [tensor("x", rows, binary=binary)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
        request_compression_algorithm=sent,
        response_compression_algorithm=wanted,
    )

    assert np.array_equal(result.as_numpy("y"), rows)


def test_only_answers_that_gain_by_it_are_compressed(server: LiveServer) -> None:
    accept = {"accept-encoding": "gzip"}
    large = np.random.default_rng(1).normal(size=(4000, 3))

    small = server.post("/v2/models/FP32/infer", {"inputs": [as_json("x", [[0, 0, 0]])]}, accept)
    packed = server.post("/v2/models/FP32/infer", {"inputs": [as_json("x", large)]}, accept)

    assert "content-encoding" not in small.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["outputs"][0]["data"] == np.float32(large).ravel().tolist()


def test_the_clients_own_parameters_are_accepted(client: triton.InferenceServerClient) -> None:
    inputs = [tensor("x", [[1]])]

    result = client.infer("adder", inputs, parameters={"recipe": "float-4mm", "retry": True}, priority=1, timeout=10**7)

    assert result.as_numpy("y").item() == 3


def test_what_the_server_does_not_have_is_refused(client: triton.InferenceServerClient) -> None:
    inputs = [tensor("x", [[1]])]
    classes = triton.InferRequestedOutput("y", class_count=2)
    shared = triton.InferInput("x", [1, 1], "FP32")
    shared.set_shared_memory("region", 4)
    ask = functools.partial(client.infer, "adder")

    assert refused(functools.partial(ask, inputs, sequence_id=7, sequence_start=True))[0] == "501"
    assert refused(functools.partial(ask, inputs, outputs=[classes]))[0] == "501"
    assert refused(functools.partial(ask, [shared]))[0] == "501"
    assert refused(functools.partial(ask, inputs, priority=9))[0] == "400"


def test_a_callers_fault_is_named(client: triton.InferenceServerClient) -> None:
    ask = functools.partial(client.infer, "two_inputs")
    a, b = tensor("a", [[1, 2]]), tensor("b", [[3, 4]])

    for call, status, text in [
        (
            functools.partial(client.infer, "addr", [a]),
            "404",
            "unknown model: 'addr' is not found. Did you mean 'adder'?",
        ),
        (functools.partial(client.infer, "adder", [a], model_version="9"), "404", "unknown model version"),
        (functools.partial(ask, [a]), "400", "b: given nothing, accepted FP32 [-1, 2]"),
        (functools.partial(ask, [a, b, tensor("c", [1])]), "400", "c: given an unknown input"),
        (functools.partial(ask, [a, tensor("b", [[1, 2, 3]])]), "400", "b.shape[1]: given 3, accepted 2"),
        (functools.partial(ask, [a, tensor("b", [[1, 2], [3, 4]])]), "400", "b.shape[0]: given 2, accepted 1"),
        (functools.partial(ask, [a, tensor("b", [[1, 2]], "INT64")]), "400", "b.datatype: given INT64, accepted FP32"),
        (functools.partial(client.infer, "broken", [a]), "503", "Model broken/1 is not ready (failed)"),
        (functools.partial(client.infer, "touchy", [tensor("x", [[13]])]), "400", "cannot run these inputs"),
        (functools.partial(client.infer, "adder", [tensor("x", np.zeros((5000, 1)))]), "413", "given 5000 rows"),
    ]:
        answered_status, answered_text = refused(call)
        assert answered_status == status
        assert text in answered_text


def test_a_timeout_limits_the_wait(client: triton.InferenceServerClient) -> None:
    status, text = refused(functools.partial(client.infer, "slow", [tensor("x", [[1]])], timeout=1000))

    sentences = {"503": "cannot answer within", "504": "did not answer within"}  # refused at once, or not in time
    assert sentences[status] in text


# ---- other clients ---------------------------------------------------------------------------------------------------


def test_a_client_that_accepts_anything_gets_health_as_json(server: LiveServer) -> None:
    accept = {"accept": "*/*"}

    assert server.get("/v2/health/live", accept).json == {"live": True}
    assert server.get("/v2/health/ready", accept).json == {"ready": True}
    assert server.get("/v2/models/adder/ready", accept).json == {"name": "adder", "ready": True}
    assert "unknown model" in server.get("/v2/models/nothing/ready", accept).json["error"]
    broken = server.get("/v2/models/broken/ready", accept)
    assert (broken.status, "broken/1" in broken.json["error"]) == (503, True)
    assert server.get("/v2/models/broken/ready").body == b""


def test_a_request_by_hand(server: LiveServer) -> None:
    reply = ask(server, "adder", as_json("x", [[1], [2]]), id="by hand")

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "model_name": "adder",
        "model_version": "2",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [3, 4]}],
        "id": "by hand",
    }


def test_a_content_type_that_means_nothing_is_not_looked_at(server: LiveServer) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}'

    reply = server.post("/v2/models/adder/infer", body, {"content-type": "application/x-www-form-urlencoded"})

    assert reply.status == 200


def test_a_raw_binary_request(server: LiveServer) -> None:
    body = np.float32([1, 2, 3]).tobytes()

    reply = server.post("/v2/models/FP32/infer", body, {"Inference-Header-Content-Length": "0"})

    assert reply.headers["content-type"] == "application/octet-stream"
    json_length = int(reply.headers["inference-header-content-length"])
    assert reply.body[json_length:] == body


def test_nan_is_an_error_in_json_and_itself_in_binary(server: LiveServer) -> None:
    json_form = ask(server, "logarithm", as_json("x", [[-1]]))
    binary = ask(server, "logarithm", as_json("x", [[-1], [0]]), parameters={"binary_data_output": True})

    assert json_form.status == 400
    assert "NaN or infinity in output y. Ask for it as binary" in json_form.json["error"]
    assert np.array_equal(np.frombuffer(binary.body[-8:], np.float32), [math.nan, -math.inf], equal_nan=True)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v2/nothing", 404, "Not Found"),
        ("GET", "/v2/models/adder/versions/one", 404, "Not Found"),
        ("POST", "/v2/models/adder/versions/one/infer", 404, "Not Found"),
        ("GET", "/v2/models/adder/infer", 405, "Method Not Allowed"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
    ],
)
def test_paths_and_methods_that_are_not_there(
    server: LiveServer, method: str, path: str, status: int, text: str
) -> None:
    reply = server.call(method, path)

    assert (reply.status, reply.json) == (status, {"error": text})


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nothing",
        "/v2/models/adder/versions/9",
        "/v2/models/a%2Fb",
        "/v2/models/adder/versions/" + "9" * 5000,
    ],
)
def test_models_that_are_not_there(server: LiveServer, path: str) -> None:
    assert server.get(path).status == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[" * 50_000, {}, 400),
        (b'{"inputs":' * 2_000, {}, 400),
        (b'{"inputs":[],"extra":1}', {}, 400),
        (b'{"inputs":[]}', {"Inference-Header-Content-Length": "99"}, 400),
        (b"\x1f\x8b no gzip", {"content-encoding": "gzip"}, 400),
        (b"{}", {"content-encoding": "br"}, 415),
    ],
)
def test_bodies_that_are_no_requests(server: LiveServer, body: bytes, headers: dict[str, str], status: int) -> None:
    reply = server.post("/v2/models/adder/infer", body, headers)

    assert reply.status == status
    assert reply.json.keys() == {"error"}
