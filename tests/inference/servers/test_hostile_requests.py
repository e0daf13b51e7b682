"""Generated malformed requests: no 5xx, no growth, and no effect on anyone who asks in earnest meanwhile.

300 of them with `make test`, 10,000 with `make test-all`. A failure prints the request, or the seed that makes it.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation.modes import GenerationMode

from inference.servers import openapi
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer
from tests.inference.raw_http import INFER, STREAM, connect, infer_body
from tests.inference.servers.test_both_routes import TALKS
from tests.inference.servers.test_inference_api import IMAGE_TOML, WINDOW_TOML
from tests.inference.servers.test_lifecycle import pending

MODELS = ("adder", "window", "picture", "two", "text")
NEIGHBOURS = 3
GROWTH_BYTES_MAX = 16 * 1024 * 1024  # what the allocator keeps of the largest requests; a leak of 2 KB each is more
ANSWER_WAIT_S = 0.1  # after which a caller whose bytes got no answer gives up
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
SEED = int(os.environ.get("SEED", "20260101"))

QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


class Besieged:
    """A server that answers good requests all the while; `check` says whether it took any harm."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self._process = psutil.Process(server.process.pid)
        self._end = threading.Event()
        self._faults: list[str] = []
        self._answered = [0] * NEIGHBOURS
        self._begun = threading.Barrier(NEIGHBOURS + 1)
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(NEIGHBOURS)]

    def __enter__(self) -> Besieged:
        for thread in self._threads:
            thread.start()
        self._begun.wait(30)
        self._descriptors = self._process.num_fds()
        return self

    def __exit__(self, *_: object) -> None:
        end = time.monotonic() + 30
        while self._process.num_fds() > self._descriptors and time.monotonic() < end:
            time.sleep(0.01)
        left = self._process.num_fds() - self._descriptors
        self._end.set()
        for thread in self._threads:
            thread.join(60)
        assert left <= 0, f"{left} descriptors more than before"

    def _ask(self, worker: int) -> None:
        with closing(self.server.connect()) as connection:
            while not self._end.is_set():
                number = float(self._answered[worker])
                connection.request("POST", INFER, infer_body(number))
                response = connection.getresponse()
                body = response.read()
                if response.status != 200 or json.loads(body)["outputs"][0]["data"] != [number + 1.0]:
                    self._faults.append(f"{response.status} {body!r}")
                    return
                self._answered[worker] += 1
                if self._answered[worker] == 1:
                    self._begun.wait(30)

    def attack(self, waves: int, wave: Callable[[int], None]) -> None:
        """Run every wave; the first one shows how much memory is needed, the others must not need more."""
        rss_bytes = 0
        for number in range(waves):
            wave(number)
            if number == 0:
                rss_bytes = self._process.memory_info().rss
        growth = self._process.memory_info().rss - rss_bytes
        assert growth < GROWTH_BYTES_MAX, f"{growth} bytes more"
        answered, end = list(self._answered), time.monotonic() + 30
        while any(now <= before for now, before in zip(self._answered, answered, strict=True)):
            assert not self._faults
            assert time.monotonic() < end, "good requests are answered no more"
            time.sleep(0.01)
        assert not self._faults
        assert "Traceback" not in self.server.output, self.server.output[-3000:]
        assert self.server.get("/health/ready").status == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models: Path = tmp_path_factory.mktemp("models")
    tiny_models.package(models, "adder", 1, tiny_models.adder)
    tiny_models.package(models, "window", 1, tiny_models.window_model, WINDOW_TOML)
    tiny_models.package(models, "picture", 1, tiny_models.image_model, IMAGE_TOML)
    tiny_models.package(models, "two", 1, tiny_models.two_inputs)
    tiny_models.package(models, "text", 1, tiny_models.string_model)
    required = [option for name in MODELS for option in ("--required", name)]
    env = {"GLASSAI_SERVER_BODY_BYTES_MAX": "200000", "GLASSAI_SERVER_JSON_BYTES_MAX": "150000"}
    with LiveServer(models, required, env) as running:
        yield running


@pytest.fixture
def besieged(server: LiveServer) -> Iterator[Besieged]:
    with Besieged(server) as made:
        yield made


def amount(few: int, many: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


# ---- what the API's own description makes ----------------------------------------------------------------------------


def calls() -> st.SearchStrategy[Any]:
    """Requests that the description allows and, mostly, that it forbids, for models that are served."""
    described = openapi.describe()
    described["components"]["schemas"]["StreamCall"]["properties"]["model_name"]["enum"] = list(MODELS)
    operations = [found.ok() for found in schemathesis.openapi.from_dict(described).get_all_operations()]
    strategies = []
    for operation in operations:
        predicts = operation.method == "post"
        given_path = {"name": "two", "version": "1"} if predicts else None
        parameters = {
            name: given_path[name] for name in ("name", "version") if f"{{{name}}}" in operation.path and given_path
        }
        for mode in (GenerationMode.NEGATIVE, GenerationMode.POSITIVE):
            for _ in range(6 if predicts else 1):
                strategies.append(operation.as_strategy(generation_mode=mode, path_parameters=parameters or None))
    return st.one_of(strategies)


@amount(50, 3000)
def test_what_the_description_makes_is_answered_without_a_5xx(besieged: Besieged, count: int):
    strategy = calls()

    def wave(_: int) -> None:
        @settings(max_examples=count // 5, phases=[Phase.generate], **QUIET)
        @given(strategy)
        def ask(case: Any) -> None:
            with suppress(requests.exceptions.InvalidHeader, UnicodeError):  # the client itself refuses
                answer = session.request(**case.as_transport_kwargs(base_url=besieged.server.url), timeout=30)
                assert answer.status_code < 500, answer.text
                if answer.status_code >= 400 and case.method != "HEAD":
                    assert answer.json()["error"]

        ask()

    with requests.Session() as session:
        besieged.attack(5, wave)


# ---- the binary form -------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [None, True, -1, 0, 1, 4, 2**31, 2**63, 2**70, 1.5, "", "FP32", "x", [], {}, [1, 1], [[1.0]], "é\x00"]
)
DATATYPES = ["FP32", "FP64", "FP16", "INT8", "INT64", "UINT8", "BOOL", "BYTES", "FP12"]
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "name", "x"]) | ODD, "shape": st.lists(st.integers(-1, 9), max_size=4) | ODD},
    optional={
        "datatype": st.sampled_from(DATATYPES) | ODD,
        "data": ODD | st.lists(st.floats() | st.integers() | st.booleans() | st.text(max_size=3), max_size=8),
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "classification", "own"]), st.integers(-1, 40) | ODD, max_size=2
        ),
    },
)
CALLS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | ODD},
    optional={
        "id": ODD,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "priority", "own"]), ODD, max_size=2)
        | ODD,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["sum", "y"]) | ODD}), max_size=2) | ODD,
        "more": ODD,
    },
)


@st.composite
def binary_requests(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """Model, header length and body: JSON and blobs that may not fit one another."""
    text = draw(st.binary(max_size=20) | CALLS.map(lambda call: json.dumps(call, allow_nan=True).encode()))
    blob = draw(st.binary(max_size=40))
    if draw(st.integers(0, 9)) == 0:
        length = draw(st.sampled_from([b"", b"-1", b"0", b"1e3", b"9" * 30, b"\xb2", b" 7", b"0x10"]))
    else:
        length = b"%d" % max(0, len(text) + draw(st.sampled_from([0, 0, 0, -1, 1, 40])))
    return draw(st.sampled_from(MODELS)), length, text + blob


@amount(120, 4000)
def test_the_binary_form_is_answered_without_a_5xx(besieged: Besieged, count: int):
    def wave(_: int) -> None:
        @settings(max_examples=count // 5, phases=[Phase.generate, Phase.shrink], **QUIET)
        @given(binary_requests())
        def ask(call: tuple[str, bytes, bytes]) -> None:
            name, length, body = call
            connection.request(
                "POST", f"/v2/models/{name}/infer", body, {"inference-header-content-length": length.decode("latin-1")}
            )
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 500, answer
            if response.status >= 400:
                assert json.loads(answer)["error"]

        ask()

    with closing(besieged.server.connect()) as connection:
        besieged.attack(5, wave)


# ---- bytes -----------------------------------------------------------------------------------------------------------

# Whose answer is a 5xx, or becomes one by a digit more or less, is no seed.
SEEDS = [
    talk.message for what, talk in TALKS.items() if not re.search(r"NaN|ready|timeout|too much|limit|64 KiB", what)
]
TOKENS = [b"\r\n", b"\r\n\r\n", b"\x00", b"\xff", b" ", b":", b"0", b"-1", b"99999999999999999999", b"{", b"[[[[", b'"']
TOKENS += [
    b"chunked",
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"upgrade: websocket\r\n",
    b"HTTP/1.0",
]
TOKENS += [
    b"connection: upgrade\r\n",
    b"expect: 100-continue\r\n",
    b"content-encoding: gzip\r\n",
    b"NaN",
    b"1e999",
    b"\xed\xa0\x80",
]


def mutated(seed: int) -> bytes:
    """A message in which something is not as it should be."""
    rng = random.Random(seed)
    message = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        place, end = sorted(rng.randrange(len(message) + 1) for _ in range(2))
        end = min(end, place + 40)
        match rng.randrange(6):
            case 0:
                message[place:place] = rng.choice(TOKENS)
            case 1:
                del message[place:end]
            case 2:
                message[place:end] = rng.randbytes(end - place)
            case 3:
                message[place:place] = message[place:end] * rng.choice([1, 2, 30])
            case 4 if message:
                message[rng.randrange(len(message))] ^= 1 << rng.randrange(8)
            case _:
                other = rng.choice(SEEDS)
                message[end:] = other[rng.randrange(len(other)) :]
    return bytes(message)


def answers_to(port: int, message: bytes) -> bytes:
    """All that comes back, until nothing more does or the server hangs up."""
    came = b""
    with connect(port, ANSWER_WAIT_S) as raw, suppress(ConnectionError):
        raw.sendall(message)
        with suppress(TimeoutError):
            while piece := raw.recv(65536):
                came += piece
    return came


@amount(130, 3000)
def test_mutated_bytes_are_answered_without_a_5xx(besieged: Besieged, count: int):
    def throw(seed: int) -> list[int]:
        message = mutated(seed)
        statuses = [int(found) for found in STATUS_LINE.findall(answers_to(besieged.server.port, message))]
        assert all(status < 500 for status in statuses), f"seed {seed}: {message!r}"
        return statuses

    seen: set[int] = set()
    with ThreadPoolExecutor(8) as pool:

        def wave(number: int) -> None:
            share = count // 5
            for statuses in pool.map(throw, range(SEED + number * share, SEED + (number + 1) * share)):
                seen.update(statuses)

        besieged.attack(5, wave)
    assert {200, 400, 404} <= seen, "the seeds are bad"


# ---- who leaves ------------------------------------------------------------------------------------------------------


@amount(100, 2000)
def test_who_leaves_anywhere_leaves_nothing_behind(besieged: Besieged, count: int):
    """Callers hang up after any number of bytes, by a close or by a reset; half of them in a pipeline."""
    rng = random.Random(SEED)

    def wave(_: int) -> None:
        with ExitStack() as stack:
            for _ in range(count // 5):
                message = rng.choice(SEEDS) * rng.choice([1, 3])
                raw = stack.enter_context(connect(besieged.server.port))
                with suppress(ConnectionError):
                    raw.sendall(message[: rng.randrange(len(message) + 1)])
                if rng.random() < 0.5:
                    raw.close()

    besieged.attack(5, wave)
    assert pending(besieged.server) <= NEIGHBOURS


def test_the_seeds_are_requests_for_both_apis():
    assert sum(INFER.encode() in seed for seed in SEEDS) > 20
    assert sum(STREAM.encode() in seed for seed in SEEDS) > 5
    assert mutated(1) == mutated(1) != mutated(2)
