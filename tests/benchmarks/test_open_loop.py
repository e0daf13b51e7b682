"""The generator's job, from the parent's side, against the constant that it is measured with."""

from __future__ import annotations

from benchmarks.load import Target
from benchmarks.open_loop import open_loop, raw_request
from benchmarks.under_test import constant_protocol


def test_a_request_carries_its_headers() -> None:
    raw = raw_request(
        Target("http://127.0.0.1:9/x", b"{}", {"Content-Type": "a/b"}), X_Priority="low", X_Timeout_Ms="20"
    )
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /x HTTP/1.1"
    assert {b"Content-Type: a/b", b"X-Priority: low", b"X-Timeout-Ms: 20", b"Content-Length: 2"} <= set(lines)
    assert body == b"{}"


def test_a_run_records_each_request() -> None:
    with constant_protocol() as server:
        server.wait("/", b"{}", lambda answer: answer == b'{"output":[[0.5]]}')
        target = Target(server.url + "/", b"{}")
        variants = [(raw_request(target, X_Priority="high"), 3.0), (raw_request(target, X_Priority="low"), 1.0)]
        run = open_loop(target, rate_s=1000, seconds=0.4, seed=1, variants=variants, connections=16)
    assert len(run.status) == len(run.choice)
    assert 300 < len(run.status) < 500
    assert run.good.all()
    assert (run.latency_s > 0).all()
    assert 0.6 < (run.choice == 0).mean() < 0.9
    assert 0 < run.quantile_ms(0.5) <= run.quantile_ms(0.99)
