"""Errors take facts and write the sentence; the tree in the docstring is the tree in the code."""

from __future__ import annotations

import inspect
import re

from inference import errors
from inference.errors import (
    CallerError,
    DeadlinePassed,
    DeadlineUnreachable,
    InferenceError,
    InvalidTensor,
    InvalidValues,
    MethodNotAllowed,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    Stopping,
    Unavailable,
    UnknownField,
    VersionNotFound,
)
from inference.fault import Fault
from inference.start_errors import StartError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, InferenceError)]


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", errors.__doc__ or ""))
    assert {c.__name__ for c in CLASSES} <= drawn


def test_the_tree_in_the_docstring_has_the_parents_of_the_code() -> None:
    depth_of: dict[int, str] = {0: "InferenceError"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│ ]*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            depth_of[depth] = found[2]
            child, parent = getattr(errors, found[2]), getattr(errors, depth_of[depth - 1])
            assert issubclass(child, parent)


def test_reasons_are_short_stable_codes() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", c.reason) for c in CLASSES)


def test_a_reason_belongs_to_one_class_and_its_children() -> None:
    owners: dict[str, type[InferenceError]] = {}
    for c in sorted(CLASSES, key=lambda c: len(c.__mro__)):
        owner = owners.setdefault(c.reason, c)
        assert issubclass(c, owner), f"{c.__name__} and {owner.__name__} share the reason {c.reason}"


def test_caller_faults_are_told_from_ours() -> None:
    assert issubclass(InvalidValues, CallerError)
    assert issubclass(ModelNotFound, CallerError)
    assert not issubclass(Unavailable, CallerError)
    assert not issubclass(StartError, CallerError)


def test_an_unknown_field_names_the_nearest_and_all() -> None:
    error = UnknownField("data", ["presure"], ["pressure", "belt_speed"])
    assert str(error) == "Unknown field 'presure' in data. Accepted: one of belt_speed, pressure."
    assert error.details == (Fault("data.presure", "an unknown field", "'pressure' was meant?"),)


def test_invalid_values_name_each_field() -> None:
    faults = [Fault("data.pressure", "nothing", "a number"), Fault("data.belt_speed", "'x'", "a number")]
    error = InvalidValues(faults)
    assert "data.pressure: given nothing, accepted a number; data.belt_speed" in str(error)
    assert error.details == tuple(faults)


def test_a_thousand_faults_make_a_bounded_sentence() -> None:
    faults = [Fault(f"f{n}", "1", "2") for n in range(1000)]
    assert len(str(InvalidTensor("m", faults))) < 1000


def test_an_unknown_model_names_what_is_served() -> None:
    error = ModelNotFound("lstm", ["lstm_defect_predictor", "vit_defect_detector"])
    assert "'lstm'" in str(error)
    assert "Served: lstm_defect_predictor, vit_defect_detector." in str(error)
    assert error.details[0].field == "model_name"


def test_an_unknown_version_names_the_versions() -> None:
    assert "Served: one of 1, 2." in str(VersionNotFound("m", "9", [1, 2]))


def test_a_refusal_says_when_to_come_back() -> None:
    full = QueueFull("m/1", "rows", 4096, 4096, 0.25)
    assert full.retry_after_s == 0.25
    assert "4096 rows wait, the limit is 4096" in str(full)
    assert Stopping().retry_after_s == 5.0
    assert ModelNotReady("m/1", "loading").retry_after_s is not None
    assert CallerError("x").retry_after_s is None


def test_a_short_time_is_told_with_two_digits() -> None:
    refused = DeadlineUnreachable("m/1", 0.0005, 0.00149, 0.001)
    assert "within the 0.5 ms that are left: it would take about 1.5 ms" in str(refused)
    assert "within the 123 ms that are left" in str(DeadlineUnreachable("m/1", 0.1234, 1.0, 1.0))
    assert "did not answer within 0.1 ms." in str(DeadlinePassed("m/1", 0.0001))


def test_a_method_error_carries_what_is_allowed() -> None:
    assert MethodNotAllowed("PUT", ["POST", "GET"]).allowed == ("GET", "POST")
