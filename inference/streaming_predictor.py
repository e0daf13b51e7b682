"""The streaming door: `python -m inference.streaming_predictor` and `glassai serve` serve live predictions."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inference.fault import nearest
from inference.settings import Settings
from inference.start_errors import StartError
from inference.version import VERSION

if TYPE_CHECKING:
    from inference.servers.member import Member

log = logging.getLogger(__name__)

EXIT_CANNOT_START = 2
EXIT_GAVE_UP = 70  # EX_SOFTWARE of sysexits.h: whoever watches the process starts another
GC_OBJECTS, GC_YOUNG_ROUNDS, GC_OLD_ROUNDS = 50_000, 20, 50  # 50,000 small objects are some 5 MB
SWITCH_INTERVAL_S = 0.05  # longer than any single piece of Python in another thread takes; see also servers/http
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MMAP_THRESHOLD_BYTES, TRIM_THRESHOLD_BYTES = 8 * 2**20, 16 * 2**20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BUNDLED_EXAMPLE = (
    '{"model_name":"lstm_defect_predictor","data":{"timestamp":"2025-12-05T10:00:00Z",'
    '"furnace_temperature":1550.0,"belt_speed":150.0,"pressure":15.5}}'
)


def build_parser(prog: str = "python -m inference.streaming_predictor") -> argparse.ArgumentParser:
    """The options of the door."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve live predictions over HTTP from a folder of ONNX models.",
        epilog="Every other setting: `glassai config` lists them; a TOML file or GLASSAI_* variables set them.",
    )
    parser.add_argument("--models", metavar="DIR", help="folder that holds NAME/VERSION/model.onnx (default: models)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 takes a free one (default: 8000)")
    parser.add_argument("--processes", type=int, metavar="N", help="server processes on the one port (default: 1)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings file (TOML)")
    parser.add_argument(
        "--required",
        metavar="NAME",
        action="append",
        help="a model without which the server is not ready; may be given several times",
    )
    parser.add_argument("--child", metavar="FD", type=int, help=argparse.SUPPRESS)  # how a parent starts its processes
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options given. Exits with 2 at one that is not there, and names the nearest."""
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        meant = nearest(unknown[0], re.findall(r"--\w+", parser.format_usage()))
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{f' ({meant} was meant?)' if meant else ''}")
    return options


def main(argv: Sequence[str] | None = None, prog: str = "python -m inference.streaming_predictor") -> int:
    """Serve until a signal comes. The exit status: 0 after a graceful stop, 2 if the server cannot start,
    70 if runs hang that cannot be stopped."""
    from inference.settings_source import load_settings

    options = parsed(build_parser(prog), argv)
    if options.child is not None:
        return serve_as_child(options.child)
    overrides = {
        "models.folder": options.models,
        "server.host": options.host,
        "server.port": options.port,
        "server.processes": options.processes,
        "models.required": options.required,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        loaded = load_settings(options.config, os.environ, given)
        return serve(loaded.settings)
    except StartError as error:
        print(f"glassai: {error}", file=sys.stderr)  # noqa: T201 - the caller's terminal is where this belongs
        return EXIT_CANNOT_START


class GiveUp:
    """Ends the process as a signal would, once the engine says that only a new one helps."""

    def __init__(self) -> None:
        self.status = 0

    def __call__(self, reason: str) -> None:
        """Answer what can be answered, then end with EXIT_GAVE_UP."""
        log.critical("this process ends, for another to take its place: %s", reason)
        self.status = EXIT_GAVE_UP
        signal.raise_signal(signal.SIGTERM)


def serve(settings: Settings) -> int:
    """Serve with these settings until a signal comes. Returns the exit status. Raises StartError."""
    if settings.server.processes > 1:
        serve_with_processes(settings)
        return 0
    import uvloop

    from inference.monitoring.logs import configure
    from inference.servers.listener import listen

    configure(settings.logging)
    tune_the_interpreter()
    listener = listen(settings.server.host, settings.server.port)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, listener))
    finally:
        listener.close()


def serve_with_processes(settings: Settings) -> None:
    """Be the parent of `server.processes` processes until a signal comes. Raises StartError."""
    from inference.monitoring.logs import configure
    from inference.servers.supervisor import supervise

    configure(settings.logging, process="parent")

    def announce(port: int, names: Sequence[str]) -> None:
        print(banner(settings.server.host, port, names, settings.server.processes), flush=True)  # noqa: T201 - see _serve

    supervise(settings, announce)


def serve_as_child(descriptor: int) -> int:
    """Be one of several processes, as the parent at the other end of the socket says. Returns the exit status."""
    import uvloop

    from inference.monitoring.logs import configure
    from inference.protocols.process_orders import CannotStart
    from inference.servers.member import Member

    member = Member(socket.socket(fileno=descriptor))
    settings = member.orders.settings
    configure(settings.logging, process=str(member.orders.process))
    tune_the_interpreter()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve_as_member(settings, member))
    except StartError as error:
        member.tell(CannotStart(str(error)))
        return EXIT_CANNOT_START
    finally:
        member.tidy_up()


async def _serve_as_member(settings: Settings, member: Member) -> int:
    from inference.engine import Engine
    from inference.model_manager import ModelManager, cores_of
    from inference.monitoring.logs import PredictionLog
    from inference.monitoring.metrics import Metrics
    from inference.protocols.process_orders import Serving
    from inference.runtime.session import OnnxSessionProvider

    member.start()
    give_up = GiveUp()
    orders, metrics, engine = member.orders, Metrics(), Engine(give_up=give_up, cores=cores_of(settings))
    models = ModelManager(settings, engine, OnnxSessionProvider(), metrics)
    models.start()
    from inference.servers.handover import Neighbours
    from inference.servers.inference_api import InferenceApi
    from inference.servers.lifecycle import MemberServer
    from inference.servers.listener import listen
    from inference.servers.metrics_page import MetricsPage
    from inference.servers.routes import build_app

    folder, predictions = Path(orders.folder), PredictionLog(settings.logging)
    neighbours = Neighbours(orders.process, orders.processes, folder, engine, predictions)
    product = InferenceApi(models, settings, engine.clock, neighbours)
    page = MetricsPage(metrics, neighbours, orders.restarts)
    try:
        await neighbours.start(product.take_over, page.count)
        if orders.restarts:
            await member.when_loaded(models)
        with listen(settings.server.host, settings.server.port, shared=True) as listener:
            member.tell(Serving(tuple(models.names())))
            app = build_app(settings, engine, models, metrics, product=product, metrics_page=page)
            await member.serve(MemberServer(app, engine, settings.server, [neighbours.drain]), listener)
    finally:
        neighbours.stop()
        await models.stop()
    return give_up.status


def tune_the_interpreter() -> None:
    """Fit Python to one busy loop with runner threads beside it; docs/benchmarks.md has what each gave.

    Look for garbage cycles more seldom: a busy server makes many objects that all die without any. And let the loop
    finish what it is at before a runner thread takes the interpreter from it.
    """
    gc.set_threshold(GC_OBJECTS, GC_YOUNG_ROUNDS, GC_OLD_ROUNDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep some memory that a session call has freed for the next one.

    Else it gives the intermediate tensors of middling batches back after every call, and each page of them is a fault
    in the next. Where the C library is not glibc, it does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


async def _serve(settings: Settings, listener: socket.socket) -> int:
    from inference.engine import Engine
    from inference.model_manager import ModelManager, cores_of
    from inference.monitoring.metrics import Metrics
    from inference.runtime.session import OnnxSessionProvider

    give_up = GiveUp()
    metrics, engine = Metrics(), Engine(give_up=give_up, cores=cores_of(settings))
    models = ModelManager(settings, engine, OnnxSessionProvider(), metrics)
    models.start()  # the loaders work while the HTTP modules are imported
    from inference.servers.lifecycle import Server
    from inference.servers.routes import build_app

    app = build_app(settings, engine, models, metrics)
    address = listener.getsockname()
    print(banner(settings.server.host, address[1], models.names()), flush=True)  # noqa: T201 - for who started it
    try:
        await Server(app, engine, settings.server).serve([listener])
    finally:
        await models.stop()
        log.info("stopped")
    return give_up.status


def banner(host: str, port: int, names: Sequence[str], processes: int = 1) -> str:
    """What a person who has started the server wants to know: where it is, who can reach it, a line to try."""
    shown = "localhost" if host in (*LOOPBACK, "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    url = f"http://{shown}:{port}"
    if host in LOOPBACK:
        reach = (
            f"Listening on {host} only, since there is no authentication yet. --host 0.0.0.0 opens it to the network."
        )
    else:
        reach = (
            f"Warning: listening on {host} without authentication. Whoever reaches port {port} can ask for predictions."
        )
    if "lstm_defect_predictor" in names:
        example = f"curl -s {url}/api/inference/stream -H 'content-type: application/json' -d '{BUNDLED_EXAMPLE}'"
    else:
        example = f"curl -s {url}/v2/models/{names[0] if names else 'NAME'}"
    return "\n".join(
        [
            f"Glass AI Inference {VERSION}",
            f"  {url:<40} start page, with a form to try a prediction",
            f"  {url + '/health/ready':<40} whether every required model answers",
            f"  {url + '/metrics':<40} metrics (Prometheus)",
            f"  {url + '/openapi.json':<40} the API (OpenAPI 3.1)",
            f"Models: {', '.join(names) or 'none found'}",
            *([f"Processes: {processes}"] if processes > 1 else []),
            reach,
            "Try:",
            f"  {example}",
            "Stop with Ctrl-C.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
