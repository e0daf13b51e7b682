"""Requests/s and latency beside the peers, interleaved in one run, with the constant route as the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import BUNDLED
from benchmarks.effort import Effort
from benchmarks.load import Load, Target, load, need_wrk
from benchmarks.questions import Question, bench_models, lstm, peer_lstm, stream
from benchmarks.results import Bar, Comparison, Result, Rival, Side, at_least, at_most, result
from benchmarks.statistics import Ratio, median, ratio
from benchmarks.under_test import FASTAPI, PEERS, Peer, constant_server, our_server, wait_for_knees

LEVELS = (1, 16, 64)
OIP = "LSTM, Open Inference Protocol JSON"
STREAM = "three sensors, /api/inference/stream"
TAIL_MAX = 2.0


@dataclass(frozen=True)
class Duel:
    """A comparison with what its bars need: ratios of p50 in the pairs, and p99 / p50 of each longer run."""

    comparison: Comparison
    p50_ratios: dict[str, Ratio]
    tails: list[float]
    constant_tails: list[float]

    def best(self, among: Callable[[Rival], bool] = lambda rival: True) -> Rival:
        """The peer with the most requests/s."""
        return max((rival for rival in self.comparison.peers if among(rival)), key=lambda rival: rival.side.requests_s)


def duel(
    request: str,
    models: Path,
    question: Question,
    peers: Sequence[tuple[Peer, Question]],
    connections: int,
    effort: Effort,
) -> Duel:
    """All servers at once on one core, loaded in turn, so that whatever else the machine does meets all of them."""
    need_wrk()
    with ExitStack() as stack:
        ours = stack.enter_context(our_server(models))
        targets = [question.wait(ours)]
        wait_for_knees(ours)
        for peer, asked in peers:
            targets.append(asked.wait(stack.enter_context(peer.start())))
        constant = stack.enter_context(constant_server())
        constant.wait("/", question.body, lambda answer: True)
        constant_target = Target(constant.url + "/", question.body)
        for target in (*targets, constant_target):
            load(target, connections, effort.warm_up_s)
        rounds = [
            [load(target, connections, effort.pair_s) for target in (*targets, targets[0])] for _ in range(effort.pairs)
        ]
        columns = list(zip(*rounds, strict=True))
        best = max(range(1, len(targets)), key=lambda place: median([run.requests_s for run in columns[place]]))
        long = [
            [load(target, connections, effort.latency_s) for target in (targets[0], targets[best], constant_target)]
            for _ in range(effort.latency_runs)
        ]
    return weigh(request, connections, [peer.name for peer, _ in peers], columns, best, list(zip(*long, strict=True)))


def weigh(
    request: str,
    connections: int,
    names: Sequence[str],
    columns: Sequence[Sequence[Load]],
    best: int,
    long: Sequence[Sequence[Load]],
) -> Duel:
    """The figures. `columns`: the pairs of ours, each peer, ours again; `long`: ours, the best peer, the constant."""
    rates = [[run.requests_s for run in column] for column in columns]
    first, again = rates[0], rates[-1]
    rivals = []
    for place, name in enumerate(names, 1):
        runs = long[1] if place == best else columns[place]
        rivals.append(Rival(name, side(rates[place], runs), ratio(first, rates[place])))
    comparison = Comparison(
        request,
        connections,
        ours=side(first, long[0]),
        peers=tuple(rivals),
        constant=side([run.requests_s for run in long[2]], long[2]),
        control=ratio(first, again),
    )
    p50 = [[run.p50_ms for run in column] for column in columns]
    p50_ratios = {name: ratio(p50[0], p50[place]) for place, name in enumerate(names, 1)}
    return Duel(comparison, p50_ratios, tails_of(long[0]), tails_of(long[2]))


def tails_of(runs: Sequence[Load]) -> list[float]:
    """p99 / p50 of each run."""
    return [run.p99_ms / run.p50_ms for run in runs]


def side(rates: Sequence[float], runs: Sequence[Load]) -> Side:
    """Medians over the runs of one server."""
    return Side(median(rates), median([run.p50_ms for run in runs]), median([run.p99_ms for run in runs]))


def oip(connections: int, row: str, effort: Effort) -> Result:
    """The LSTM against every peer."""
    asked = peer_lstm()
    seen = duel(OIP, bench_models(), lstm(), [(peer, asked) for peer in PEERS], connections, effort)
    return result(row, seen.comparison, bars=bars_of(seen, connections))


def bars_of(seen: Duel, connections: int) -> tuple[Bar, ...]:
    """The bars of this level."""
    control = f"control {seen.comparison.control}"
    if connections == 64:
        mosec = seen.best(lambda rival: rival.name.startswith("mosec"))
        what = f"requests/s at c=64 against mosec with msgspec (best: {mosec.name})"
        return (at_least(what, mosec.ratio, 1.3, "2x", control), tail_bar(seen))
    best = seen.best()
    what = f"requests/s at c={connections} against the best peer ({best.name})"
    if connections == 16:
        return (at_least(what, best.ratio, 3.0, "4.5x", control),)
    quickest = min(seen.comparison.peers, key=lambda rival: rival.side.p50_ms)
    p50_ms = f"{seen.comparison.ours.p50_ms:.2f} ms against {quickest.side.p50_ms:.2f} ms"
    return (
        at_least(what, best.ratio, 1.4, "1.6x", control),
        at_most(
            f"p50 at c=1 against the best peer's ({quickest.name})", seen.p50_ratios[quickest.name], 0.65, "", p50_ms
        ),
    )


def tail_bar(seen: Duel) -> Bar:
    """p99 / p50 at c=64: at most 2, or at most that of the constant route."""
    ours, constant = median(seen.tails), median(seen.constant_tails)
    met = ours <= max(TAIL_MAX, constant)
    beside = f"constant route {constant:.2f}"
    return Bar("p99 / p50 at c=64", f"{ours:.2f}", f"<= {TAIL_MAX:g}, or the constant route's", met, beside)


def bundled_stream(connections: int, row: str, effort: Effort) -> Result:
    """The bundled sensor model with the product's own request beside FastAPI: shown, no bar."""
    asked = stream()
    return result(row, duel(STREAM, BUNDLED, asked, [(FASTAPI, asked)], connections, effort).comparison)
