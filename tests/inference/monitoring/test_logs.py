"""A log line has its time, level, logger and event, hides secrets, is bounded, and cannot be forged."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import timeit
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone

import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import InvalidValues
from inference.fault import Fault
from inference.model import ModelKey
from inference.monitoring.logs import HIDDEN, Bounds, PredictionLog, configure, describe_tensors
from inference.request import Prediction, Timings
from inference.settings import LoggingSettings

log = logging.getLogger("inference.somewhere")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def as_json(level: str = "INFO", **changes: object) -> io.StringIO:
    out = io.StringIO()
    configure(LoggingSettings(level=level, format="json", **changes), out)  # type: ignore[arg-type] - any of its fields
    return out


def test_a_line_says_when_how_grave_where_and_what():
    out = as_json()
    before = datetime.now(timezone.utc)
    log.info("serving %s", "lstm", extra={"request_id": "req_1", "batch_rows": 8})
    (line,) = lines(out)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert before <= datetime.fromisoformat(str(line["timestamp"])) <= datetime.now(timezone.utc)
    assert str(line["timestamp"]).endswith("Z")
    del line["timestamp"]
    assert line == {
        "level": "info",
        "logger": "inference.somewhere",
        "event": "serving lstm",
        "request_id": "req_1",
        "batch_rows": 8,
    }


@pytest.mark.parametrize(
    ("level", "heard"), [("DEBUG", "dDiIwe"), ("INFO", "iIwe"), ("WARNING", "we"), ("ERROR", "e"), ("CRITICAL", "")]
)
def test_levels(level: str, heard: str):
    out = as_json(level)
    other = structlog.get_logger("door")
    log.debug("d")
    other.debug("D")
    log.info("i")
    other.info("I")
    log.warning("w")
    log.error("e")
    assert "".join(str(line["event"]) for line in lines(out)) == heard


def test_loggers_of_uvicorn_structlog_and_warnings_take_the_same_way():
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.addHandler(logging.StreamHandler(io.StringIO()))
    uvicorn.propagate = False
    out = as_json()
    uvicorn.info("Started")
    structlog.get_logger("door").warning("hello", password="x", port=1)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    started, hello, old = lines(out)
    assert (started["logger"], started["event"]) == ("uvicorn.error", "Started")
    assert (hello["logger"], hello["password"], hello["port"]) == ("door", HIDDEN, 1)
    assert old["logger"] == "py.warnings"
    assert "old thing" in str(old["event"])


def test_secrets_are_hidden_at_any_depth_and_in_any_case():
    out = as_json()
    log.warning("x", extra={"Authorization": "Bearer s3", "body": {"X-API-Key": "s3", "rows": [{"db_password": "s3"}]}})
    log.warning("y", extra={"body": {"tokens": 5, "width": 7}})
    hidden, shown = lines(out)
    assert "s3" not in out.getvalue()
    assert hidden["body"] == {"X-API-Key": HIDDEN, "rows": [{"db_password": HIDDEN}]}
    assert shown["body"] == {"tokens": 5, "width": 7}


def test_the_names_to_hide_are_a_setting():
    out = as_json(redact=("recipe",))
    log.warning("x", extra={"recipe": 1, "glass_recipe": 2, "password": "shown"})
    (line,) = lines(out)
    assert (line["recipe"], line["glass_recipe"], line["password"]) == (HIDDEN, HIDDEN, "shown")


def test_payloads_are_cut():
    out = as_json(payload_chars_max=10)
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    log.warning("x", extra={"text": "a" * 50, "raw": b"12345", "many": list(range(1000)), "deep": deep})
    (line,) = lines(out)
    assert line["text"] == "aaaaaaaaaa... (50 characters)"
    assert line["raw"] == "(5 bytes)"
    assert len(line["many"]) == 65  # type: ignore[arg-type] - a list
    assert line["many"][-1] == "... 936 more"  # type: ignore[index] - a list
    assert "nested" in str(line["deep"])
    assert len(out.getvalue()) < 1000


def test_an_error_is_logged_with_the_fields_at_fault():
    out = as_json()
    error = InvalidValues([Fault("data.pressure", "'high'", "a number")])
    log.warning("refused", extra={"error": error})
    try:
        raise error
    except InvalidValues:
        log.exception("failed")
    told, traced = lines(out)
    for line in (told, traced):
        assert line["reason"] == "invalid_values"
        assert line["faults"] == ["data.pressure: given 'high', accepted a number"]
    assert told["error"] == str(error)
    assert str(traced["exception"]).startswith("Traceback (most recent call last)")


def test_the_sentence_of_an_error_is_told_once():
    out = as_json()
    error = InvalidValues([Fault("data.pressure", "'high'", "a number")])
    log.warning("%s", error, extra={"error": error})
    (line,) = lines(out)
    assert (line["event"], line["reason"]) == (str(error), "invalid_values")
    assert "error" not in line


@pytest.mark.parametrize("field", ["data.recipe", "recipe", "rows[3].glass_recipe", "recipe.data[7]", "data.Recipe"])
def test_what_was_given_for_a_secret_field_is_hidden_in_faults_and_sentence(field: str):
    out = as_json(redact=("recipe",))
    error = InvalidValues([Fault(field, "'s3cret'", "a number"), Fault("data.pressure", "'high'", "a number")])
    log.warning("%s", error, extra={"error": error})
    log.warning("refused", extra={"error": error})
    for line in lines(out):
        assert line["faults"] == [
            f"{field}: given {HIDDEN}, accepted a number",
            "data.pressure: given 'high', accepted a number",
        ]
    assert "s3cret" not in out.getvalue()
    assert out.getvalue().count("'high'") == 4


def test_as_many_faults_are_logged_as_a_sentence_names():
    out = as_json()
    error = InvalidValues([Fault(f"data.s{number}", "nothing", "a number") for number in range(1000)])
    log.warning("%s", error, extra={"error": error})
    (line,) = lines(out)
    assert len(line["faults"]) == 8  # type: ignore[arg-type] - a list


def test_a_traceback_shows_no_local_variables():
    for form in ("json", "console"):
        out = io.StringIO()
        configure(LoggingSettings(format=form), out)  # type: ignore[arg-type] - one of its literals
        try:
            credential = "".join(["s", "3", "cret"])
            raise ValueError(len(credential))
        except ValueError:
            log.exception("failed")
        assert "Traceback" in out.getvalue()
        assert "s3cret" not in out.getvalue()


def test_a_caller_cannot_forge_a_line_nor_steer_a_terminal():
    for form in ("json", "console"):
        out = io.StringIO()
        configure(LoggingSettings(format=form), out)  # type: ignore[arg-type] - one of its literals
        log.warning("bad name: %s", "x\n2026-01-01T00:00:00Z [info] all is well \x1b[31m", extra={"id": "a\nb\x1b"})
        written = out.getvalue()
        assert "\x1b" not in written
        assert not [line for line in written.splitlines() if line.startswith("2026-01-01")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_whatever_is_logged_is_one_line_of_json(value: object):
    out = as_json()
    log.warning("x", extra={"value": value, "half": "\ud800", "thing": object()})
    (line,) = lines(out)
    assert line["event"] == "x"


def test_auto_is_json_for_a_file_and_console_for_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, is_json in ((io.StringIO(), True), (Terminal(), False)):
        configure(LoggingSettings(), out)
        log.warning("hello", extra={"port": 8000})
        assert out.getvalue().startswith("{") == is_json
        assert "8000" in out.getvalue()


def prediction() -> Prediction:
    outputs = {"p": np.array([[0.25]], np.float32)}
    return Prediction("pred_1", ModelKey("lstm", 3), outputs, Timings(0.001, 0.0002, 8))


def test_a_prediction_is_one_line_at_debug_and_none_at_info():
    inputs = {"rows": np.arange(96, dtype=np.float32).reshape(1, 32, 3)}
    out = as_json("DEBUG")
    predictions = PredictionLog(LoggingSettings(level="DEBUG"))
    assert predictions.enabled
    predictions.write("req_1", prediction(), inputs)
    (line,) = lines(out)
    del line["timestamp"]
    assert line == {
        "level": "debug",
        "logger": "inference.monitoring.logs",
        "event": "prediction",
        "request_id": "req_1",
        "prediction_id": "pred_1",
        "model": "lstm",
        "version": 3,
        "queue_ms": 1.0,
        "run_ms": 0.2,
        "batch_rows": 8,
        "inputs": {"rows": {"datatype": "FP32", "shape": [1, 32, 3], "values": [float(n) for n in range(16)]}},
        "outputs": {"p": {"datatype": "FP32", "shape": [1, 1], "values": [0.25]}},
    }
    assert not PredictionLog(LoggingSettings(level="INFO")).enabled


def test_a_disabled_prediction_log_costs_a_look_at_a_bool():
    predictions = PredictionLog(LoggingSettings())
    looks = 10_000
    best_s = min(timeit.repeat("p.enabled", globals={"p": predictions}, number=looks, repeat=5))
    assert best_s / looks < 0.2e-6


def test_tensors_of_every_kind_are_described():
    tensors = {
        "text": np.array(["a", "b"], np.object_),
        "scalar": np.array(1.5),
        "flags": np.array([[True, False]]),
    }
    assert describe_tensors(tensors) == {
        "text": {"datatype": "BYTES", "shape": [2], "values": ["a", "b"]},
        "scalar": {"datatype": "FP64", "shape": [], "values": [1.5]},
        "flags": {"datatype": "BOOL", "shape": [1, 2], "values": [True, False]},
    }


def test_names_that_only_look_like_a_secret_are_shown():
    bounds = Bounds(LoggingSettings(), console=False)
    assert bounds.hides("ACCESS-TOKEN")
    assert not bounds.hides("tokens")
    assert not bounds.hides("image_width")


def test_importing_the_module_does_not_load_structlog():
    code = "import sys, inference.monitoring.logs; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_configuring_loads_structlog_without_rich_and_leaves_rich_importable():
    code = (
        "import sys; from inference.monitoring.logs import configure; from inference.settings import LoggingSettings\n"
        "configure(LoggingSettings()); print('structlog' in sys.modules, 'rich' in sys.modules)\n"
        "import rich.console; print(rich.console.Console.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "Console"]


def test_a_process_among_several_says_which_it_is():
    out = io.StringIO()
    configure(LoggingSettings(format="json"), out, process="1")
    log.info("serving")
    logging.getLogger("uvicorn.error").info("shutting down")
    assert [line["process"] for line in lines(out)] == ["1", "1"]
    alone = as_json()
    log.info("serving")
    assert "process" not in lines(alone)[0]
