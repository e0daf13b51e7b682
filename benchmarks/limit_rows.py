"""Rows against physical limits: bare `session.run` on the same core, the plain request, one process more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.bare import BareWorker
from benchmarks.bench import BUNDLED
from benchmarks.effort import Effort
from benchmarks.load import Lines, Target, load
from benchmarks.models import LSTM_SHAPE, VIT_SHAPE
from benchmarks.questions import (
    Question,
    bench_models,
    bundled_file,
    bundled_pixels,
    bundled_vit,
    lstm,
    model_file,
    stream,
    vit,
)
from benchmarks.results import Result, at_least, result
from benchmarks.statistics import Ratio, median, ratio
from benchmarks.under_test import our_server, wait_for_knees

VIT_PAIR_S = 2  # a batch of the ViT takes milliseconds, so a second holds few
Facts = tuple[tuple[str, str], ...]


def session_run(row: str, effort: Effort) -> Result:
    """Rows/s of bare `session.run` on the server's core."""
    facts: Facts = ()
    for name, shape in (("lstm", LSTM_SHAPE), ("vit", VIT_SHAPE)):
        with BareWorker(model_file(name), shape) as bare:
            rates = {rows: bare.rows_s(rows, effort.pair_s) for rows in (1, 8, 32)}
        facts += tuple((f"bare session.run, {name}, batch {rows}, rows/s", f"{s:,.0f}") for rows, s in rates.items())
    return result(row, facts=facts)


def in_turn(measures: Sequence[Callable[[], float]], rounds: int) -> list[tuple[float, ...]]:
    """Each measure once a round; one column of figures a measure."""
    return list(zip(*([measure() for measure in measures] for _ in range(rounds)), strict=True))


def oip_vs_bare(row: str, effort: Effort) -> Result:
    """Rows/s over HTTP at c=64, one row a request, against bare `session.run` at batch 32."""
    with our_server(bench_models()) as ours, BareWorker(model_file("lstm"), LSTM_SHAPE) as bare:
        target = lstm().wait(ours)
        wait_for_knees(ours)
        load(target, 64, effort.warm_up_s)
        bare.rows_s(32, effort.warm_up_s)

        def served() -> float:
            return load(target, 64, effort.pair_s).requests_s

        first, limit, again = in_turn([served, lambda: bare.rows_s(32, effort.pair_s), served], effort.pairs)
    beside = f"{median(first):,.0f} against {median(limit):,.0f} rows/s; control {ratio(first, again)}"
    what = "rows/s at c=64 against bare session.run at batch 32, same core"
    return result(row, bars=(at_least(what, ratio(first, limit), 0.36, "0.5x", beside),))


def lines(row: str, effort: Effort) -> Result:
    """The source document's own request over 64 lines with rising timestamps, against the LSTM's OIP rate at c=64."""
    with our_server(bench_models()) as plain, our_server(BUNDLED, name="glassai-bundled") as bundled:
        target = lstm().wait(plain)
        stream().wait(bundled)
        wait_for_knees(plain)
        wait_for_knees(bundled)
        rows = Lines(bundled.url + "/api/inference/stream")
        load(target, 64, effort.warm_up_s)
        rows.load(64, effort.warm_up_s)

        def of_lines() -> float:
            return rows.load(64, effort.pair_s).requests_s

        def of_oip() -> float:
            return load(target, 64, effort.pair_s).requests_s

        first, oip, again = in_turn([of_lines, of_oip, of_lines], effort.pairs)
    beside = f"{median(first):,.0f} against {median(oip):,.0f} requests/s; control {ratio(first, again)}"
    what = "the source document's request (three sensors, 64 lines, c=64) against the OIP rate at c=64"
    return result(row, bars=(at_least(what, ratio(first, oip), 0.9, "", beside),))


def vit_c16(row: str, effort: Effort) -> Result:
    """The ViT with raw binary tensors at c=16 against bare `session.run` at its best batch; the bundled one beside."""
    pair_s = max(effort.pair_s, VIT_PAIR_S) if effort.weigh else effort.pair_s
    seen, beside = against_bare(bench_models(), vit(), model_file("vit"), VIT_SHAPE, pair_s, effort)
    bar = at_least("ViT, raw binary tensor, c=16, against bare session.run at its best batch", seen, 0.85, "", beside)
    file = bundled_file("vit_defect_detector")
    own, own_beside = against_bare(BUNDLED, bundled_vit(), file, bundled_pixels().shape[1:], pair_s, effort)
    return result(
        row, facts=(("bundled ViT, uint8 pixels in binary form, c=16, the same", f"{own}x; {own_beside}"),), bars=(bar,)
    )


def against_bare(
    models: Path, question: Question, file: Path, shape: tuple[int, ...], pair_s: int, effort: Effort
) -> tuple[Ratio, str]:
    """Ours at c=16 against the best batch of bare `session.run`, and what stands beside it."""
    with our_server(models) as ours, BareWorker(file, shape) as bare:
        target = question.wait(ours)
        wait_for_knees(ours)
        best = bare.best_batch(0.5)
        load(target, 16, effort.warm_up_s)

        def served() -> float:
            return load(target, 16, pair_s).requests_s

        first, limit, again = in_turn([served, lambda: bare.rows_s(best, pair_s), served], effort.pairs)
    rates = f"{median(first):,.0f} against {median(limit):,.0f} rows/s at batch {best}"
    return ratio(first, limit), f"{rates}; control {ratio(first, again)}"


def processes(row: str, effort: Effort) -> Result:
    """One and two server processes, nothing pinned, in turn: shown, no bar."""
    facts: Facts = ()
    for name, models, question in (
        ("OIP JSON", bench_models(), lstm()),
        ("source document's request", BUNDLED, stream()),
    ):
        facts += more_processes(name, models, question, effort)
    return result(row, facts=facts)


def unpinned(asked: Target | Lines, seconds: int) -> float:
    """Requests/s at c=64, wrk on whichever core is free."""
    seen = asked.load(64, seconds, None) if isinstance(asked, Lines) else load(asked, 64, seconds, None)
    return seen.requests_s


def more_processes(name: str, models: Path, question: Question, effort: Effort) -> Facts:
    """Requests/s of both at c=64, and their ratio."""
    with ExitStack() as stack:
        measures: list[Callable[[], float]] = []
        for count in (1, 2):
            settings = {"GLASSAI_SERVER_PROCESSES": str(count)}
            server = our_server(models, core=None, name=f"glassai-{count}", settings=settings)
            target = question.wait(stack.enter_context(server))
            wait_for_knees(server)
            measures.append(partial(unpinned, Lines(target.url) if models == BUNDLED else target, effort.pair_s))
        for measure in measures:
            measure()
        one, two, again = in_turn([*measures, measures[0]], effort.pairs)
    return (
        (f"{name}, c=64, unpinned, 1 process, requests/s", f"{median(one):,.0f}"),
        (f"{name}, c=64, unpinned, 2 processes, requests/s", f"{median(two):,.0f}"),
        (f"{name}, 2 processes against 1", f"{ratio(two, one)}x; control {ratio(again, one)}"),
    )
