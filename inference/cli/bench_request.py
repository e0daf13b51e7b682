"""The request that `glassai bench` repeats: made from the model's own metadata, in the form that its size asks for."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from inference.cli.load_generator import ServerGone
from inference.start_errors import StartError
from inference.tensor import DTYPES, Array, element_count

JSON_ELEMENTS_MAX = 1024  # beyond it an input goes as its bytes: reading JSON would be what is measured
BINARY_ONLY = frozenset({"FP16"})
ANSWER_LIMIT_S = 30.0
SHOWN_CHARS_MAX = 600
TEXT = b"glass"
DECIMALS = 4
JSON_TYPE = ("Content-Type", "application/json")
BINARY_TYPE = ("Content-Type", "application/octet-stream")


class BenchImpossible(StartError):
    """The capacity test cannot begin: the model is not there, or it refuses the request."""

    reason = "bench_impossible"


class MetadataTensor(msgspec.Struct, frozen=True):
    """An input as GET /v2/models/NAME declares it; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class Metadata(msgspec.Struct, frozen=True):
    """What GET /v2/models/NAME says."""

    name: str
    inputs: list[MetadataTensor]


@dataclass(frozen=True)
class BenchRequest:
    """A whole HTTP request, its body apart, and what it is in words."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    words: str

    def raw(self, host: str, port: int) -> bytes:
        """As it goes over the wire."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {host}:{port}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode("latin-1") + self.body


def address_of(url: str) -> tuple[str, int]:
    """Host and port of http://HOST[:PORT]. Raises BenchImpossible."""
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/") or parts.query:
        raise BenchImpossible(f"--url: given {url!r}, accepted http://HOST[:PORT].")
    return parts.hostname, port


def headers_of(given: list[str]) -> tuple[tuple[str, str], ...]:
    """`Name: value` as pairs. Raises BenchImpossible."""
    found = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or "\n" in text or "\r" in text:
            raise BenchImpossible(f"--header: given {text!r}, accepted 'Name: value'.")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def request_of(
    host: str, port: int, model: str, body: Path | None, headers: tuple[tuple[str, str], ...]
) -> BenchRequest:
    """From the file, or from what the server says about the model. Raises BenchImpossible, ServerGone."""
    if body is None:
        return request_from_metadata(host, port, model, headers)
    try:
        return request_from_body(model, body.read_bytes(), headers)
    except OSError as error:
        raise BenchImpossible(f"--body: {str(body)!r} cannot be read ({error.strerror or error}).") from None


def infer_path(model: str) -> str:
    """Where the model's requests go."""
    return f"/v2/models/{quote(model, safe='')}/infer"


def request_from_metadata(host: str, port: int, model: str, headers: Sequence[tuple[str, str]] = ()) -> BenchRequest:
    """One row of random values of each input. Raises ServerGone, BenchImpossible."""
    status, body = ask(host, port, "GET", f"/v2/models/{quote(model, safe='')}")
    if status != 200:
        raise BenchImpossible(f"The server does not serve {model!r} (status {status}): {shown(body)}")
    try:
        metadata = msgspec.json.decode(body, type=Metadata)
    except msgspec.MsgspecError as error:
        raise BenchImpossible(f"http://{host}:{port} does not speak the Open Inference Protocol: {error}") from None
    return build_request(metadata, headers)


def request_from_body(model: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> BenchRequest:
    """The caller's own body, as it is."""
    return BenchRequest(infer_path(model), (JSON_TYPE, *headers), body, f"the given body, {len(body):,} bytes")


def build_request(metadata: Metadata, headers: Sequence[tuple[str, str]] = ()) -> BenchRequest:
    """One row of each input, sizes that are open set to 1; the same values every time. Raises BenchImpossible."""
    random = np.random.default_rng(0)
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    binary = any(_goes_binary(spec) for spec in metadata.inputs)
    for spec in metadata.inputs:
        shape = [1 if size < 0 else size for size in spec.shape]
        values = _values(spec, shape, random)
        entry: dict[str, Any] = {"name": spec.name, "shape": shape, "datatype": spec.datatype}
        if isinstance(values, list):
            entry["data"] = [TEXT.decode()] * len(values)
        elif binary:
            blobs.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = _short(values).ravel().tolist()
        entries.append(entry)
    text = msgspec.json.encode({"inputs": entries})
    named = ", ".join(f"{entry['name']} {entry['datatype']} {entry['shape']}" for entry in entries)
    body = text + b"".join(blobs)
    kind: tuple[tuple[str, str], ...] = (JSON_TYPE,)
    if blobs:
        kind = (BINARY_TYPE, ("Inference-Header-Content-Length", str(len(text))))
    words = f"{named} {'in binary form' if blobs else 'as JSON'}, {len(body):,} bytes"
    return BenchRequest(infer_path(metadata.name), (*kind, *headers), body, words)


def try_request(host: str, port: int, request: BenchRequest) -> None:
    """Ask once. Raises BenchImpossible with the server's own words if the answer is not 200, ServerGone."""
    status, body = ask(host, port, "POST", request.path, request.body, request.headers)
    if status != 200:
        raise BenchImpossible(
            f"The server refuses the request (status {status}): {shown(body)} "
            "Give one that it takes with --body FILE, as JSON of the Open Inference Protocol."
        )


def ask(
    host: str, port: int, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
) -> tuple[int, bytes]:
    """Status and body of one answer. Raises ServerGone."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerGone(host, port, getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    finally:
        connection.close()


def shown(body: bytes) -> str:
    """The `error` of an answer, or the beginning of whatever came instead."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        found = None
    text = str(found["error"]) if isinstance(found, dict) and "error" in found else body.decode(errors="replace")
    return text[:SHOWN_CHARS_MAX]


def _short(values: Array) -> Array:
    """Decimals as people write them: a float32 as float64 would be printed with 17 digits."""
    return values.astype(np.float64).round(DECIMALS) if values.dtype.kind == "f" else values


def _goes_binary(spec: MetadataTensor) -> bool:
    big = element_count(tuple(max(size, 1) for size in spec.shape)) > JSON_ELEMENTS_MAX
    return spec.datatype in BINARY_ONLY or (big and spec.datatype != "BYTES")


def _values(spec: MetadataTensor, shape: Sequence[int], random: np.random.Generator) -> Array | list[bytes]:
    """Values of the datatype: numbers from 0 to 1, small whole numbers, texts."""
    if spec.datatype == "BYTES":
        return [TEXT] * element_count(tuple(shape))
    if spec.datatype not in DTYPES:
        raise BenchImpossible(
            f"Input {spec.name!r} has datatype {spec.datatype!r}, of which no values can be made. Use --body FILE."
        )
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "f":
        return random.uniform(0, 1, tuple(shape)).round(DECIMALS).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 100, tuple(shape)).astype(dtype)
