"""Rows about harm: a client that sends wrong shapes beside good ones, and memory over a million requests."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Generator
from contextlib import contextmanager

from benchmarks.effort import Effort
from benchmarks.load import load
from benchmarks.payloads import compact
from benchmarks.questions import Question, bench_models, lstm, peer_lstm
from benchmarks.results import Bar, Result, result
from benchmarks.server import JSON_BODY, Server
from benchmarks.under_test import FASTAPI, PEERS, our_server, wait_for_knees

BAD_EVERY_S = 0.03
GROWTH_MB_MAX = 2.0
CHUNK_S = 10
WRONG_OIP = compact({"inputs": [{"name": "input", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
WRONG_PLAIN = compact({"data": [[1, 2], [3, 4]]})


@contextmanager
def bad_client(server: Server, path: str, body: bytes) -> Generator[list[int]]:
    """Someone who sends this body each 30 ms until the block ends; the statuses that come back, 0 for none."""
    statuses: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.wait(BAD_EVERY_S):
            statuses.append(status_of(server, path, body))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield statuses
    finally:
        over.set()
        sender.join()


def status_of(server: Server, path: str, body: bytes) -> int:
    """What one request is answered with; 0 if it is not."""
    try:
        return server.ask(path, body, JSON_BODY)[0]
    except (OSError, http.client.HTTPException):
        return 0


def bad_client_row(row: str, effort: Effort) -> Result:
    """16 good clients beside a bad one: none of their requests may fail. The peers beside."""
    failed, facts = disturbed("ours", our_server(bench_models()), lstm(), WRONG_OIP, effort)
    bar = Bar(
        "good requests that failed beside a client of wrong shapes, c=16", str(failed), "0", failed == 0, facts[0][1]
    )
    for peer in (PEERS[0], FASTAPI):
        facts += disturbed(peer.name, peer.start(), peer_lstm(), WRONG_PLAIN, effort)[1]
    return result(row, facts=facts[1:], bars=(bar,))


def disturbed(
    name: str, server: Server, question: Question, wrong: bytes, effort: Effort
) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Good requests that failed, and the story in words."""
    with server:
        target = question.wait(server)
        load(target, 16, effort.warm_up_s)
        with bad_client(server, question.path, wrong) as statuses:
            seen = load(target, 16, effort.bad_client_s, all_good=False)
    answers = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
    story = f"{seen.failed} of {seen.requests:,} good requests failed; the bad ones got {answers}"
    return seen.failed, ((f"bad client beside 16 good ones, {name}", story),)


def resident(row: str, effort: Effort) -> Result:
    """Growth of the resident memory over the second million requests at c=64."""
    with our_server(bench_models()) as server:
        target = lstm().wait(server)
        wait_for_knees(server)
        at_start = server.resident_mb()
        marks: list[float] = []
        sent = 0
        for goal in (effort.million, 2 * effort.million):
            while sent < goal:
                sent += load(target, 64, CHUNK_S if effort.weigh else 1).requests
            marks.append(server.resident_mb())
    growth = marks[1] - marks[0]
    beside = f"{at_start:.1f} at the start, {marks[0]:.1f} after the first, {marks[1]:.1f} MB after {sent:,}"
    what = "resident memory over the second million requests, MB"
    return result(
        row, bars=(Bar(what, f"{growth:+.1f}", f"<= {GROWTH_MB_MAX:g}, aim 0", growth <= GROWTH_MB_MAX, beside),)
    )
