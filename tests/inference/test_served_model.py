"""A version that answers: its requests, its place in the queue, and what the engine is told of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.errors import InvalidTensor
from inference.model import ModelKey, ModelLimits, ModelSpec, Signature
from inference.monitoring.counters import VersionMetrics
from inference.protocols.call_limits import NO_LIMITS, CallLimits
from inference.request import Priority
from inference.runtime.function_session import FunctionSession
from inference.runtime.profile import BatchProfile
from inference.served_model import SHAPES_KEPT, ServedModel
from inference.settings import QueueSettings, RuntimeSettings, ScalingSettings, Settings
from inference.tensor import TensorSpec

KEY = ModelKey("two", 1)
PAIR = tuple(TensorSpec(name, "FP32", ("batch", 2)) for name in "ab")
SIGNATURE = Signature(PAIR, (TensorSpec("y", "FP32", ("batch", 2)),))


def served(limits: ModelLimits | None = None, signature: Signature = SIGNATURE) -> ServedModel:
    spec = ModelSpec(limits=limits or ModelLimits())
    package: Any = SimpleNamespace(key=KEY, spec=spec, bare=False, folder=Path())
    session = FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["a"] + inputs["b"]})
    canary = {name: np.zeros((1, 2), np.float32) for name in "ab"}
    profile = BatchProfile(True, True, "batches", 8, "probe", canary, {1: 0.001, 8: 0.004})
    pipeline: Any = None
    return ServedModel(package, signature, session, pipeline, profile, VersionMetrics(KEY), timeout_max_s=30.0)


def test_inputs_in_another_order_share_a_batch() -> None:
    model = served()
    a, b = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    one = model.request({"a": a, "b": b}, request_id="r", now=0.0)
    other = model.request({"b": b, "a": a}, request_id="r", now=0.0)
    assert one.group == other.group
    assert (one.rows, one.byte_count) == (3, 48)
    assert model.request({"a": a, "b": b}, request_id="r", now=0.0, parameters=("recipe",)).group != one.group


def test_inputs_that_fit_once_are_known_by_their_shapes_and_all_others_are_checked_as_before() -> None:
    model = served()
    fits = {"a": np.ones((3, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    for _ in range(2):
        assert model.request(fits, request_id="r", now=0.0).rows == 3
        for misfit in (np.ones((3, 2), np.float64), np.ones((3, 3), np.float32), np.ones((3, 2), ">f4")):
            with pytest.raises(InvalidTensor):
                model.request({**fits, "b": misfit}, request_id="r", now=0.0)
    for rows in range(1, 3 * SHAPES_KEPT):
        many = {name: np.ones((rows, 2), np.float32) for name in "ab"}
        assert model.request(many, request_id="r", now=0.0).rows == rows
    assert len(model._known) <= SHAPES_KEPT


def test_strings_are_measured_each_time() -> None:
    signature = Signature((TensorSpec("a", "BYTES", ("batch",)),), SIGNATURE.outputs)
    model = served(signature=signature)
    sizes = [
        model.request({"a": np.array([text], np.object_)}, request_id="r", now=0.0).byte_count for text in ("", "glass")
    ]
    assert sizes[1] - sizes[0] == len("glass")


def test_rows_that_disagree_over_inputs_are_refused() -> None:
    inputs = {"a": np.ones((2, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    with pytest.raises(InvalidTensor, match="batch"):
        served().request(inputs, request_id="r", now=0.0)


def test_a_calls_own_limits_come_before_the_models_and_these_before_the_servers() -> None:
    plain = served()
    assert plain.place(100.0, NO_LIMITS) == (Priority.NORMAL, 130.0)
    own = served(ModelLimits(priority="high", timeout_ms=2000))
    assert own.place(100.0, NO_LIMITS) == (Priority.HIGH, 102.0)
    assert own.place(100.0, CallLimits(Priority.LOW, 0.5)) == (Priority.LOW, 100.5)
    assert own.place(100.0, CallLimits(None, 0.5)) == (Priority.HIGH, 100.5)


def test_no_call_gets_more_time_than_the_server_gives() -> None:
    patient = served(ModelLimits(timeout_ms=1e9))
    assert patient.place(100.0, NO_LIMITS)[1] == 130.0
    assert patient.place(100.0, CallLimits(None, 3600.0))[1] == 130.0


def test_the_engine_is_told_bounds_runners_and_what_was_measured() -> None:
    settings = Settings(
        queue=QueueSettings(rows_max=9, bytes_max=99, patience_s=0.5),
        scaling=ScalingSettings(runners_min=2, runners_max=3),
        runtime=RuntimeSettings(intra_op_threads=4),
    )
    service = served().service(settings)
    assert (service.queue.batch_rows_max, service.queue.patience_s) == (8, 0.5)
    assert (service.admission.rows_max, service.admission.bytes_max) == (9, 99)
    assert (service.runners.runners_min, service.runners.runners_max, service.runners.runner_cores) == (2, 3, 4)
    assert service.timings_s == {1: 0.001, 8: 0.004}


def test_without_scaling_the_runners_stay_at_their_minimum() -> None:
    service = served().service(Settings(scaling=ScalingSettings(enabled=False, runners_min=2)))
    assert (service.runners.runners_min, service.runners.runners_max) == (2, 2)
