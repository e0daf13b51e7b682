"""The settings: every key with its type, default, bounds and meaning. Reads no file and no environment.

The descriptions here are the ones that `glassai config` and docs/settings.md show.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Versions = Literal["latest", "all"] | Annotated[list[Count], Meta(min_length=1)]
Provider = Literal["tensorrt", "cuda", "cpu"]
ImageFormat = Literal["jpeg", "png"]
MIB = 1024 * 1024


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens and what it takes."""

    host: Annotated[str, Meta(description="Address to listen on. 127.0.0.1 answers this machine only.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on. 0 takes a free one.")] = 8000
    request_timeout_s: Annotated[Positive, Meta(description="Longest time that an accepted request may wait, s.")] = (
        30.0
    )
    drain_limit_s: Annotated[Positive, Meta(description="Time to answer what was accepted before the stop, s.")] = 20.0
    body_bytes_max: Annotated[Count, Meta(description="Largest request body, as sent and as decompressed, bytes.")] = (
        64 * MIB
    )
    json_bytes_max: Annotated[
        Count,
        Meta(description="Largest JSON, bytes. Its numbers are read at some 60 MB/s while nobody else is served."),
    ] = 4 * MIB
    stream_window: Annotated[
        Count, Meta(description="Messages of one WebSocket that may be without an answer before it is read no further.")
    ] = 32
    connections_max: Annotated[Count, Meta(description="Connections that a process holds open. Beyond them 503.")] = (
        4096
    )
    header_bytes_max: Annotated[
        int, Meta(ge=8192, description="Largest request line with all headers, bytes; the same for trailers.")
    ] = 32 * 1024
    header_timeout_s: Annotated[
        Positive, Meta(description="Time from the connection, or from a request's first byte, to its whole headers, s.")
    ] = 10.0
    body_timeout_s: Annotated[
        Positive, Meta(description="Time in which a whole body has to come, and an answer to be read, s.")
    ] = 60.0
    stall_timeout_s: Annotated[
        Positive, Meta(description="Time in which a body has to grow by 1 KiB, or as much of an answer to be read, s.")
    ] = 20.0
    receiving_bytes_max: Annotated[
        Count, Meta(description="Bytes of all bodies above 64 KiB that are being received. Beyond them 503.")
    ] = 512 * MIB
    keep_alive_s: Annotated[Count, Meta(description="Time after which an idle connection is closed, s.")] = 75
    processes: Annotated[
        int, Meta(ge=1, le=64, description="Processes that serve on the one port. Above 1 a parent watches them.")
    ] = 1
    fast_route: Annotated[
        bool, Meta(description="Whether plain predict requests are answered from the parser's callbacks.")
    ] = True


class ModelsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models are served; `required` ones hold back readiness."""

    folder: Annotated[str, Meta(description="Folder that holds NAME/VERSION/model.onnx.")] = "models"
    versions: Annotated[Versions, Meta(description="Versions that are loaded of each model.")] = "latest"
    required: Annotated[
        tuple[str, ...], Meta(description="Models without which the server does not call itself ready.")
    ] = ()


class QueueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one version's queue, counted in rows, bytes and time that wait."""

    rows_max: Annotated[Count, Meta(description="Rows that may wait for one model version.")] = 4096
    bytes_max: Annotated[Count, Meta(description="Bytes of input that may wait for one model version.")] = 256 * MIB
    ms_max: Annotated[Count, Meta(description="Predicted wait of a request up to which more may come, ms.")] = 30_000
    patience_s: Annotated[
        Positive, Meta(description="Wait after which a request may go before those of higher priority, s.")
    ] = 1.0


class BackgroundSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the rows of jobs may take of a server that answers live callers."""

    batch_ms_max: Annotated[
        Positive,
        Meta(description="Time that a batch of a job is predicted to take at most, one row excepted, ms."),
    ] = 5.0
    share_min: Annotated[
        float,
        Meta(ge=0, le=0.5, description="Share of a model's runners that its jobs get also while live callers wait."),
    ] = 0.05


class LinesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows that the server keeps for each production line (`stream_id`)."""

    lines_max: Annotated[
        Count, Meta(description="Lines held for one model. Beyond it the line idle for longest is dropped.")
    ] = 10_000
    idle_s: Annotated[Positive, Meta(description="Time after which an idle line is dropped, s.")] = 3600.0
    rows_held_extra: Annotated[
        int, Meta(ge=0, description="Rows kept beyond the window, so that late rows can be answered.")
    ] = 32


class ImagesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one image, checked before it is decoded."""

    bytes_max: Annotated[Count, Meta(description="Largest image file, bytes.")] = 16 * MIB
    pixels_max: Annotated[  # Pillow opens no larger picture without a warning
        int, Meta(ge=1, le=89_478_485, description="Largest width times height of an image, pixels.")
    ] = 25_000_000
    formats: Annotated[tuple[ImageFormat, ...], Meta(min_length=1, description="Image formats that are decoded.")] = (
        "jpeg",
        "png",
    )


class RuntimeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How ONNX Runtime executes."""

    providers: Annotated[
        tuple[Provider, ...], Meta(min_length=1, description="Execution providers, tried in this order.")
    ] = ("tensorrt", "cuda", "cpu")
    intra_op_threads: Annotated[Count, Meta(description="Threads inside one operator of a model.")] = 1
    inter_op_threads: Annotated[Count, Meta(description="Threads across operators of a model.")] = 1
    spinning: Annotated[
        bool, Meta(description="Whether idle threads of ONNX Runtime spin: lower latency, a busy core.")
    ] = False
    profile_cache: Annotated[
        str, Meta(description="Folder for the measured batch sizes of each model. Empty: not kept.")
    ] = "~/.cache/glassai"


class ScalingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runners of each model version: threads that run one batch at a time. They grow and shrink with the load."""

    enabled: Annotated[bool, Meta(description="Whether runners follow the load. false: always `runners_min`.")] = True
    runners_min: Annotated[Count, Meta(description="Fewest runners of a model version, kept while it is idle.")] = 1
    runners_max: Annotated[
        int, Meta(ge=0, description="Most runners of a model version. 0: as many as the cores allow.")
    ] = 0
    cores: Annotated[
        int,
        Meta(
            ge=0,
            description="Cores that the runners of all busy models share; each takes `runtime.intra_op_threads`. "
            "0: those that this process may use.",
        ),
    ] = 0
    target_delay_ms: Annotated[
        Positive, Meta(description="Wait for a runner above which a model with busy runners gets more, ms.")
    ] = 20.0
    interval_s: Annotated[Positive, Meta(description="Time between two looks at the load, s.")] = 0.25
    grow_after_s: Annotated[
        Positive, Meta(description="Time of too long waits before a runner is added, s. A burst does not wait for it.")
    ] = 1.0
    shrink_after_s: Annotated[
        Positive, Meta(description="Time for which fewer runners would have sufficed before one is given up, s.")
    ] = 15.0


class HealthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Readiness means that a canary inference of each required model has answered within `canary_max_age_s`."""

    canary_interval_s: Annotated[Positive, Meta(description="Time between two canary inferences of a model, s.")] = 5.0
    canary_max_age_s: Annotated[
        Positive, Meta(description="Age of the last good canary at which a model stops being ready, s.")
    ] = 15.0


class LoggingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged and how; inputs and outputs are logged at DEBUG only, cut to `payload_chars_max`."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Meta(description="Least level that is logged.")
    ] = "INFO"
    format: Annotated[
        Literal["auto", "console", "json"], Meta(description="Form of a line. auto: console on a terminal, else json.")
    ] = "auto"
    payload_chars_max: Annotated[Count, Meta(description="Characters of one logged value, beyond which it is cut.")] = (
        1000
    )
    redact: Annotated[
        tuple[str, ...], Meta(description="Field names whose values are never logged, whatever their case.")
    ] = ("authorization", "password", "token", "secret", "api_key", "image")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings, one section a struct."""

    server: ServerSettings = ServerSettings()
    models: ModelsSettings = ModelsSettings()
    queue: QueueSettings = QueueSettings()
    background: BackgroundSettings = BackgroundSettings()
    lines: LinesSettings = LinesSettings()
    images: ImagesSettings = ImagesSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    scaling: ScalingSettings = ScalingSettings()
    health: HealthSettings = HealthSettings()
    logging: LoggingSettings = LoggingSettings()


def cross_problems(settings: Settings) -> list[str]:
    """Problems that only show when two settings are seen together."""
    problems = []
    if settings.health.canary_max_age_s <= settings.health.canary_interval_s:
        problems.append(
            f"health.canary_max_age_s: given {settings.health.canary_max_age_s:g}, accepted more than "
            f"health.canary_interval_s ({settings.health.canary_interval_s:g})"
        )
    scaling = settings.scaling
    if 0 < scaling.runners_max < scaling.runners_min:
        problems.append(
            f"scaling.runners_max: given {scaling.runners_max}, accepted at least scaling.runners_min "
            f"({scaling.runners_min}), or 0 for as many as the cores allow"
        )
    if scaling.shrink_after_s <= scaling.grow_after_s:
        problems.append(
            f"scaling.shrink_after_s: given {scaling.shrink_after_s:g}, accepted more than scaling.grow_after_s "
            f"({scaling.grow_after_s:g}), or runners would come and go"
        )
    return problems
