"""A served version beside its queue: runners by number, the canary, answers that come in slices."""

from __future__ import annotations

import dataclasses

import numpy as np

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.runner_load import RunnerBounds
from inference.decisions.scheduler import QueuePolicy
from inference.lane import CANARY_BYTES_MAX, Lane, Service
from inference.model import Signature
from inference.monitoring.counters import VersionMetrics
from inference.request import Slice
from inference.runtime.function_session import FunctionSession
from inference.tensor import TensorSpec
from tests.inference.requests import KEY, request

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch", 1)),), (TensorSpec("y", "FP32", ("batch", 1)),))
CANARY = {"x": np.zeros((1, 1), np.float32)}
SERVICE = Service(
    KEY,
    FunctionSession(SIGNATURE, lambda inputs: {"y": inputs["x"]}),
    QueuePolicy("adder/1", 8),
    AdmissionPolicy("adder/1", 100, 10_000),
    RunnerBounds(1),
    True,
    CANARY,
    VersionMetrics(KEY),
)


def test_a_runners_number_is_never_used_again() -> None:
    lane = Lane(SERVICE)
    first = lane.new_runner()
    assert lane.runners.pop(first).stop(10)
    second = lane.new_runner()
    assert second != first
    assert lane.runners.pop(second).stop(10)


def test_what_was_measured_before_is_known_at_once() -> None:
    assert Lane(SERVICE).row_s() == 0.0
    assert Lane(SERVICE).run_limit_base_s(8) is None
    lane = Lane(dataclasses.replace(SERVICE, timings_s={1: 0.002, 8: 0.009}))
    assert 0.0005 < lane.row_s() < 0.005
    limit_s = lane.run_limit_base_s(8)
    assert limit_s is not None
    assert limit_s >= 8 * lane.row_s()


def test_a_canary_that_never_ran_gives_way_to_a_small_request_that_did() -> None:
    lane = Lane(dataclasses.replace(SERVICE, canary_runs=False))
    lane.adopt_canary(request("large", byte_count=CANARY_BYTES_MAX + 1))
    assert lane.canary is CANARY
    small = request("small")
    lane.adopt_canary(small)
    assert lane.canary is small.inputs
    lane.adopt_canary(request("later"))
    assert lane.canary is small.inputs


def test_slices_that_come_back_out_of_order_are_put_together_in_order() -> None:
    lane, whole = Lane(SERVICE), request("whole", rows=5)
    parts = [Slice(whole, 3, 5), Slice(whole, 0, 3)]
    rows = whole.inputs["x"]
    assert lane.put_together(parts[0], {"y": rows[3:5]}, ("y",), 1.0, 0.1) is None
    answer = lane.put_together(parts[1], {"y": rows[0:3]}, (), 1.1, 0.2)
    assert answer is not None
    assert answer.outputs["y"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert answer.non_finite == ("y",)
    assert answer.timings.run_s == 0.1 + 0.2


def test_a_request_that_nobody_waits_for_is_forgotten() -> None:
    lane, whole = Lane(SERVICE), request("whole", rows=2)
    lane.put_together(Slice(whole, 0, 1), {"y": whole.inputs["x"][:1]}, (), 1.0, 0.1)
    lane.forget(whole)
    answer = lane.put_together(Slice(whole, 1, 2), {"y": whole.inputs["x"][1:]}, (), 1.0, 0.1)
    assert answer is None  # the first slice is gone, so the whole never comes


def test_the_load_is_what_scheduler_and_totals_say() -> None:
    lane = Lane(SERVICE)
    waiting = request("a", rows=3)
    assert lane.scheduler.submit(waiting, 10.0) == []
    lane.totals.accepted(waiting)
    load = lane.load(12.0)
    assert (load.waiting_rows, load.oldest_wait_s, load.arrived_rows, load.runners) == (3, 2.0, 3, 0)
