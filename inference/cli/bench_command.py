"""`glassai bench`: how many requests a second a running server answers within a latency goal, and what callers feel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from inference.cli.load_schedule import PATTERNS

EXIT_NO_RATE = 1  # not even the lowest rate kept the goal
RATE_MAX_S = 200_000.0  # beyond what the generator can send
PICTURES = (".svg", ".html")


def bench(
    url: Annotated[str, typer.Option("--url", help="Server to load: http://HOST[:PORT].")],
    model: Annotated[str, typer.Option("--model", help="Name of the model to ask.")],
    goal_p99_ms: Annotated[float, typer.Option("--goal-p99-ms", min=0.01, help="Latency goal of the p99, ms.")] = 50.0,
    pattern: Annotated[str, typer.Option("--pattern", help="Arrivals: poisson or bursts.")] = "poisson",
    seconds: Annotated[float, typer.Option("--seconds", min=0.05, help="Length of a run, s.")] = 5.0,
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=10_000, help="Connections, one request in flight on each.")
    ] = 256,
    rate_max: Annotated[float, typer.Option("--rate-max", min=1, help="Highest rate to try, requests/s.")] = RATE_MAX_S,
    body: Annotated[Path | None, typer.Option("--body", metavar="FILE", help="Send this body (JSON).")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="Send this header; may be repeated.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw latency over rate: .svg or .html.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the arrival times.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out how many requests a second a running server answers within a latency goal (open loop).

    Requests come at random times, whether or not earlier ones have been answered, as they do in a plant. The rate
    doubles until the p99 breaks the goal, and then the gap is halved. A refused or failed request counts as never
    answered. Run it on another machine than the server, or leave it a core of its own.
    """
    from inference.cli import bench_request, capacity_test

    if pattern not in PATTERNS:
        raise typer.BadParameter(f"given {pattern!r}, accepted {' or '.join(PATTERNS)}", param_hint="--pattern")
    if plot_file is not None and plot_file.suffix not in PICTURES:
        accepted = f"a name that ends in {' or '.join(PICTURES)}"
        raise typer.BadParameter(f"given {str(plot_file)!r}, accepted {accepted}", param_hint="--plot")
    host, port = bench_request.address_of(url)
    request = bench_request.request_of(host, port, model, body, bench_request.headers_of(header or []))
    bench_request.try_request(host, port, request)
    it = capacity_test.Bench(host, port, model, request, pattern, goal_p99_ms, seconds, connections, rate_max, seed)
    report = capacity_test.measure(it, tell=_nothing if as_json else typer.echo)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    if plot_file is not None:
        capacity_test.plot(report, plot_file)
    if not report.capacity_s:
        raise typer.Exit(EXIT_NO_RATE)


def _nothing(line: str) -> None:
    """With --json only the report is printed."""
