"""Status, body and compression of the answers under /v2."""

from __future__ import annotations

import pytest

from inference import errors
from inference.errors import InferenceError, MethodNotAllowed, QueueFull, RouteNotFound
from inference.servers.open_inference import STATUS_BY_REASON, choose_encoding, error_response
from inference.start_errors import StartError


def error_classes(base: type[InferenceError] = InferenceError) -> set[type[InferenceError]]:
    return {base}.union(
        *(error_classes(child) for child in base.__subclasses__() if child.__module__ == errors.__name__)
    )


def test_every_error_that_a_caller_can_meet_has_its_status() -> None:
    met = {error.reason for error in error_classes() - error_classes(StartError)}

    assert met == STATUS_BY_REASON.keys()


def test_an_error_is_its_sentence() -> None:
    response = error_response(QueueFull("m/1", "rows", 9, 10, 1.0))

    assert response.status == 503
    assert response.body == (
        b'{"error":"The queue of model m/1 is full: 9 rows wait, the limit is 10. Retry after 1 s."}'
    )


def test_unknown_paths_and_methods_are_answered_in_the_protocols_words() -> None:
    path = error_response(RouteNotFound("/v2/nothing"))
    method = error_response(MethodNotAllowed("PUT", ["POST"]))

    assert (path.status, path.body) == (404, b'{"error":"Not Found"}')
    assert (method.status, method.body) == (405, b'{"error":"Method Not Allowed"}')


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("GZIP ; q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=many", None),
        ("br, zstd, identity", None),
        ("", None),
    ],
)
def test_the_encoding_is_the_one_that_the_caller_likes_best(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen
