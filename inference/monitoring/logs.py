"""Structured logs: one line an event, JSON or console, with secrets hidden and payloads cut.

All code logs through the standard library; a server door calls `configure` once, and every record (uvicorn's too) takes
the same way: time, level, logger, event, the record's extra fields, redaction, cut, one line. A line per prediction is
written at DEBUG only.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TextIO

import msgspec

from inference.errors import InferenceError
from inference.fault import Fault
from inference.request import Prediction
from inference.settings import LoggingSettings
from inference.tensor import DATATYPES, Tensors

log = logging.getLogger(__name__)

HIDDEN = "(hidden)"
ITEMS_MAX = 64  # of one logged list or object
DEPTH_MAX = 8
VALUES_SHOWN = 16  # of one logged tensor
FAULTS_SHOWN = 8  # as many as an error's own sentence names
FIRST_KEYS = ("timestamp", "level", "logger", "event")
PATH_PARTS = re.compile(r"[^.\[\]]+")  # of the name of a field, such as data.rows[3].pressure

Event = MutableMapping[str, Any]


def configure(settings: LoggingSettings, stream: TextIO | None = None, process: str = "") -> None:
    """Send every log record of the process to `stream` (stderr) in the form that the settings ask for.

    `process` is the field of this name in every line; without it there is none.
    """
    _load_structlog()
    import structlog

    out = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    bounded = Bounds(settings, console=console)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([Named(process)] if process else []),
        explain_errors,
        bounded,
    ]
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        without_colours,
    ]
    if console:
        plain = structlog.dev.plain_traceback  # the default shows local variables, and with them what callers sent
        last += [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    else:
        last += [structlog.processors.format_exc_info, json_line]
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    _route(handler, settings.level)


def _load_structlog() -> None:
    """Import structlog as on a machine without rich, whose tracebacks are not used here: 70 ms less to start, 4 MB."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # pyrefly: ignore[unsupported-operation] - Python's own way to say that it is not there
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


def _route(handler: logging.Handler, level: str) -> None:
    """The one handler on the root; loggers that brought their own give them up."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


class Named:
    """Says in every line which of several processes wrote it."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, logger: object, method_name: str, event_dict: Event) -> Event:
        """A structlog processor."""
        event_dict["process"] = self._process
        return event_dict


def explain_errors(logger: object, method_name: str, event_dict: Event) -> Event:
    """Give a record of one of the product's errors its reason and the fields at fault.

    The error is the record's `error`, else what was raised.
    """
    error = event_dict.get("error")
    if error is None and isinstance(event_dict.get("exc_info"), tuple):
        error = event_dict["exc_info"][1]
    if isinstance(error, InferenceError):
        event_dict.setdefault("reason", error.reason)
        event_dict.setdefault("faults", list(error.details[:FAULTS_SHOWN]))
        if event_dict.get("event") == str(error):
            event_dict.pop("error", None)  # its sentence is the event already
    return event_dict


def without_colours(logger: object, method_name: str, event_dict: Event) -> Event:
    """Drop uvicorn's second form of the event, which has terminal codes in it."""
    event_dict.pop("color_message", None)
    return event_dict


class Bounds:
    """Hides the values of redacted names at any depth; cuts long texts, lists and nests.

    A name is redacted if it is on the list or ends with `_` and a name on the list, whatever its case, `-` as `_`. What
    was given for such a field is hidden in an error's faults, and in its sentence where that quotes the fault.
    """

    def __init__(self, settings: LoggingSettings, *, console: bool) -> None:
        self._names = tuple(_plain(name) for name in settings.redact)
        self._chars_max = settings.payload_chars_max
        self._console = console

    def __call__(self, logger: object, method_name: str, event_dict: Event) -> Event:
        """A structlog processor."""
        if "faults" in event_dict:
            self._hide_given(event_dict)
        for key, value in event_dict.items():
            if key not in ("exc_info", "_record", "_from_structlog"):  # structlog's own, still needed
                event_dict[key] = HIDDEN if self.hides(key) else self._cut(value, DEPTH_MAX)
        return event_dict

    def hides(self, name: str) -> bool:
        """Whether values of this name are never logged."""
        plain = _plain(name)
        return any(plain == hidden or plain.endswith(f"_{hidden}") for hidden in self._names)

    def _hide_given(self, event_dict: Event) -> None:
        for fault in event_dict["faults"]:
            if isinstance(fault, Fault) and any(map(self.hides, PATH_PARTS.findall(fault.field))):
                hidden = str(Fault(fault.field, HIDDEN, fault.accepted))
                for key in event_dict.keys() & {"event", "error"}:
                    event_dict[key] = str(event_dict[key]).replace(str(fault), hidden)
                event_dict["faults"] = [hidden if one is fault else one for one in event_dict["faults"]]

    def _cut(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"({len(value)} bytes)"
        if depth == 0:
            return "(nested deeper)"
        if isinstance(value, Mapping):
            shown = list(value.items())[:ITEMS_MAX]
            cut: dict[str, object] = {
                self._text(str(key)): HIDDEN if self.hides(str(key)) else self._cut(item, depth - 1)
                for key, item in shown
            }
            return cut if len(value) == len(shown) else {**cut, "...": f"{len(value) - len(shown)} more"}
        if isinstance(value, Sequence):
            items = [self._cut(item, depth - 1) for item in value[:ITEMS_MAX]]
            return items if len(value) == len(items) else [*items, f"... {len(value) - len(items)} more"]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        if len(text) > self._chars_max:
            text = f"{text[: self._chars_max]}... ({len(text)} characters)"
        if not self._console or text.isprintable():
            return text
        # Indented, so that a caller's line break cannot look like a line of ours; terminal codes are escaped.
        lines = [line if line.isprintable() else line.encode("unicode_escape").decode() for line in text.split("\n")]
        return "\n    ".join(lines)


def json_line(logger: object, method_name: str, event_dict: Event) -> str:
    """The event as one line of JSON, the fixed fields first."""
    ordered = {key: event_dict.pop(key) for key in FIRST_KEYS if key in event_dict} | {**event_dict}
    try:
        return msgspec.json.encode(ordered, enc_hook=str).decode()
    except (TypeError, ValueError):  # half a surrogate pair, or a key that is not text: escaped by the slower encoder
        return json.dumps(ordered, default=str, skipkeys=True)


class PredictionLog:
    """One DEBUG line a prediction. Ask `enabled` first: it is a plain bool, so that a disabled log costs nothing."""

    def __init__(self, settings: LoggingSettings) -> None:
        self.enabled = settings.level == "DEBUG"

    def write(self, request_id: str, prediction: Prediction, inputs: Tensors) -> None:
        """Log ids, version, timings, inputs and outputs, at most VALUES_SHOWN values of a tensor."""
        timings = prediction.timings
        fields = {
            "request_id": request_id,
            "prediction_id": prediction.id,
            "model": prediction.model.name,
            "version": prediction.model.version,
            "queue_ms": round(timings.queue_s * 1000, 3),
            "run_ms": round(timings.run_s * 1000, 3),
            "batch_rows": timings.batch_rows,
            "inputs": describe_tensors(inputs),
            "outputs": describe_tensors(prediction.outputs),
        }
        log.debug("prediction", extra=fields)


def describe_tensors(tensors: Tensors) -> dict[str, object]:
    """Datatype, shape and first values of each tensor."""
    return {
        name: {
            "datatype": DATATYPES.get(array.dtype, str(array.dtype)),
            "shape": list(array.shape),
            "values": array.ravel()[:VALUES_SHOWN].tolist(),
        }
        for name, array in tensors.items()
    }


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
