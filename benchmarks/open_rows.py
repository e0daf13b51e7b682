"""Rows of an open loop: the generator's own limit, and what users feel at 70 % of capacity."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bare import BareWorker
from benchmarks.effort import Effort
from benchmarks.load import Target, load
from benchmarks.models import LSTM_SHAPE
from benchmarks.open_loop import OpenRun, open_loop
from benchmarks.questions import bench_models, lstm, model_file
from benchmarks.results import Bar, Result, Tail, result
from benchmarks.statistics import median
from benchmarks.under_test import constant_protocol, constant_server, our_server, wait_for_knees

GENERATOR_RATES = (2_500, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000)
SHARE_OF_CAPACITY = 0.7
SHARE_UNLOADED = 0.02
TRIES = 3  # of a run that the generator lagged in
TAIL_SHARES = (0.5, 0.9, 0.99, 0.999)


class Void(RuntimeError):
    """The generator lagged in every try, so that nothing was measured."""


def sound(target: Target, rate_s: float, seconds: float, seed: int, tries: int = TRIES) -> OpenRun:
    """A run that the generator kept up with. Raises Void."""
    lag = ""
    for attempt in range(tries):
        run = open_loop(target, rate_s, seconds, seed + 1000 * attempt)
        if not run.lag:
            return run
        lag = run.lag
    raise Void(f"{rate_s:,.0f} requests/s to {target.url}: void {tries} times, {lag}")


def tails_of(runs: Mapping[str, OpenRun]) -> tuple[Tail, ...]:
    """The percentiles of each run in which anything was answered."""
    return tuple(
        Tail(what, int(run.good.sum()), *(run.quantile_ms(share, run.good) for share in TAIL_SHARES))
        for what, run in runs.items()
        if run.good.any()
    )


def generator_limit(seconds: float, rates: tuple[int, ...] = GENERATOR_RATES) -> int:
    """The highest of these rates that the generator keeps against the fastest constant there is; 0 if none."""
    kept = 0
    with constant_protocol() as server:
        server.wait("/", b"{}", lambda answer: True)
        target = Target(server.url + "/", lstm().body)
        for rate_s in rates:
            if open_loop(target, rate_s, seconds, seed=rate_s).lag:
                break
            kept = rate_s
    return kept


def generator(row: str, effort: Effort) -> Result:
    """What the load generator itself can send on its core: shown, no bar."""
    kept = generator_limit(effort.latency_s)
    return result(
        row, facts=(("open loop: highest rate the generator keeps against a constant, requests/s", f"{kept:,}"),)
    )


def capacity(target: Target, connections: int, effort: Effort) -> float:
    """Requests/s of a closed loop: the median of three runs."""
    return median([load(target, connections, max(effort.pair_s, effort.latency_s // 2)).requests_s for _ in range(3)])


def poisson_70(row: str, effort: Effort) -> Result:
    """The LSTM at 70 % of its capacity, the unloaded server and the constant route in turn."""
    limit = generator_limit(1)
    with (
        our_server(bench_models()) as ours,
        constant_server() as fixed,
        BareWorker(model_file("lstm"), LSTM_SHAPE) as bare,
    ):
        target = lstm().wait(ours)
        knee = wait_for_knees(ours)["lstm"]
        fixed.wait("/", target.body, lambda answer: True)
        constant = Target(fixed.url + "/", target.body)
        load(target, 64, effort.warm_up_s)
        most = capacity(target, 64, effort)
        batch_ms = knee / bare.rows_s(knee, effort.pair_s) * 1000
        rate_s = SHARE_OF_CAPACITY * most
        runs = []
        for seed in range(effort.latency_runs):
            given = ((target, SHARE_UNLOADED * most), (target, rate_s), (constant, rate_s))
            runs.append([sound(one, rate, effort.latency_s, seed) for one, rate in given])
    idle, busy, constants = zip(*runs, strict=True)
    p99 = median([run.quantile_ms(0.99) for run in busy])
    idle_p50 = median([run.quantile_ms(0.5) for run in idle])
    constant_p99 = median([run.quantile_ms(0.99) for run in constants])
    bound = 3 * idle_p50 + batch_ms + constant_p99
    beside = (
        f"{rate_s:,.0f} requests/s of {most:,.0f}; 3 x unloaded p50 {idle_p50:.2f} + a batch of {knee} {batch_ms:.2f} "
        f"+ constant route's p99 {constant_p99:.2f} ms; the generator keeps {limit:,}/s"
    )
    bar = Bar(
        "LSTM, Poisson arrivals at 70 % of capacity, p99, ms", f"{p99:.2f}", f"<= {bound:.2f}", p99 <= bound, beside
    )
    failed = sum(int((~run.good).sum()) for run in busy)
    facts = (
        ("LSTM, Poisson at 70 %: p50, ms", f"{median([run.quantile_ms(0.5) for run in busy]):.2f}"),
        ("LSTM, Poisson at 70 %: requests that got no prediction", f"{failed} of {sum(len(r.status) for r in busy)}"),
    )
    tails = {"LSTM, unloaded": idle[0], "LSTM, Poisson at 70 %": busy[0], "constant route, same rate": constants[0]}
    return result(row, facts=facts, bars=(bar,), tails=tails_of(tails))
