"""The model manager: what can be loaded is served, what cannot says why and harms nobody."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engine import Engine
from inference.errors import DeadlineUnreachable, ModelNotFound, ModelNotReady, VersionNotFound
from inference.model import Signature
from inference.model_manager import ModelManager, scaling_policy
from inference.monitoring.metrics import Metrics
from inference.protocols.call_limits import CallLimits
from inference.request import Prediction, Request
from inference.runtime.function_session import FunctionSession, FunctionSessionProvider
from inference.runtime.session import OnnxSessionProvider
from inference.settings import (
    HealthSettings,
    ModelsSettings,
    RuntimeSettings,
    ScalingSettings,
    ServerSettings,
    Settings,
)
from inference.start_errors import ModelsFolderUnreadable
from inference.tensor import Tensors, TensorSpec
from tests.inference import tiny_models

Start = Callable[..., ModelManager]


class SteppedClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def start(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[Start]:
    managers: list[ModelManager] = []

    def begin(health: HealthSettings | None = None, **models: Any) -> ModelManager:
        settings = Settings(
            models=ModelsSettings(folder=str(tmp_path), **models),
            runtime=RuntimeSettings(profile_cache=str(tmp_path / ".cache")),
            health=health or HealthSettings(),
        )
        manager = ModelManager(settings, Engine(clock), OnnxSessionProvider(), Metrics())
        managers.append(manager)
        manager.start()
        return manager

    yield begin
    for manager in managers:
        await manager.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Until something that other threads bring about is so."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def ended(manager: ModelManager) -> ModelManager:
    await until(lambda: all(status.state != "loading" for status in manager.index()))
    await until(lambda: all(s.answered_s is not None for s in manager.index() if s.state == "ready"))
    return manager


async def test_a_model_is_served_and_answers(tmp_path: Path, start: Start):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    manager = await ended(start(required=("adder",)))
    assert manager.readiness().ready
    served = manager.resolve("adder")
    assert (served.key.name, served.key.version, served.bare) == ("adder", 1, True)
    limits = CallLimits(None, 5.0)
    request = served.request({"x": np.ones((2, 1), np.float32)}, request_id="r", now=100.0, limits=limits)
    assert (request.rows, request.byte_count, request.deadline_s) == (2, 8, 105.0)


async def test_the_highest_version_answers_unless_another_is_named(tmp_path: Path, start: Start):
    for version in (2, 10, 9):
        tiny_models.package(tmp_path, "adder", version, tiny_models.adder)
    manager = await ended(start(versions="all"))
    assert manager.resolve("adder").key.version == 10
    assert manager.resolve("adder", 2).key.version == 2
    assert manager.versions("adder") == [2, 9, 10]
    with pytest.raises(VersionNotFound, match="2, 9"):
        manager.resolve("adder", 3)


async def test_only_the_chosen_versions_are_loaded(tmp_path: Path, start: Start):
    for version in (1, 2):
        tiny_models.package(tmp_path, "adder", version, tiny_models.adder)
    manager = await ended(start())
    assert [status.key.version for status in manager.index()] == [2]


async def test_an_unknown_model_is_refused_with_the_nearest_name(tmp_path: Path, start: Start):
    tiny_models.package(tmp_path, "lstm_defect_predictor", 1, tiny_models.adder)
    manager = await ended(start())
    with pytest.raises(ModelNotFound, match="Did you mean 'lstm_defect_predictor'"):
        manager.resolve("lstm_defect_predicter")


async def test_what_cannot_be_loaded_says_why_and_keeps_no_other_from_being_served(tmp_path: Path, start: Start):
    tiny_models.package(tmp_path, "good", 1, tiny_models.adder)
    tiny_models.package(tmp_path, "corrupt", 1, tiny_models.corrupt)
    tiny_models.package(tmp_path, "odd", 1, tiny_models.sequence_output)
    (tmp_path / "hollow" / "1").mkdir(parents=True)
    manager = await ended(start(required=("good",)))
    assert manager.readiness().ready
    states = {status.key.name: (status.state, bool(status.problems)) for status in manager.index()}
    assert states["good"] == ("ready", False)
    assert {states[name] for name in ("corrupt", "odd", "hollow")} == {("failed", True)}
    with pytest.raises(ModelNotReady, match="failed"):
        manager.resolve("corrupt")


async def test_a_required_model_that_is_missing_or_broken_holds_back_readiness(tmp_path: Path, start: Start):
    tiny_models.package(tmp_path, "broken", 1, tiny_models.corrupt)
    tiny_models.package(tmp_path, "good", 1, tiny_models.adder)
    manager = await ended(start(required=("broken", "missing", "good")))
    readiness = manager.readiness()
    assert not readiness.ready
    assert len(readiness.reasons) == 2
    assert "broken/1: failed" in readiness.reasons[0]
    assert "missing" in readiness.reasons[1]


async def test_an_empty_folder_is_ready_to_serve_nothing(start: Start):
    assert (await ended(start())).readiness().ready


async def test_a_missing_folder_stops_the_start(tmp_path: Path):
    settings = Settings(models=ModelsSettings(folder=str(tmp_path / "nowhere")))
    with pytest.raises(ModelsFolderUnreadable, match="nowhere"):
        ModelManager(settings, Engine(), OnnxSessionProvider(), Metrics()).start()


async def test_readiness_ends_when_the_canary_has_not_answered_for_too_long(
    tmp_path: Path, start: Start, clock: SteppedClock
):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    manager = await ended(start(HealthSettings(canary_interval_s=1000, canary_max_age_s=2000), required=("adder",)))
    clock.now += 1999
    assert manager.readiness().ready
    clock.now += 2
    (reason,) = manager.readiness().reasons
    assert "its canary last answered 2001.0 s ago" in reason


async def test_a_model_that_cannot_be_probed_runs_alone_and_its_canary_shows_that_the_runner_lives(
    tmp_path: Path, start: Start
):
    def fails_always(path: Path) -> Path:
        return tiny_models.fails_on(path, 1.0)

    tiny_models.package(tmp_path, "sulky", 1, fails_always)
    manager = await ended(start(required=("sulky",)))
    profile = manager.resolve("sulky").profile
    assert (profile.batched, profile.probed) == (False, False)
    assert "not probed" in profile.reason
    assert manager.readiness().ready


async def test_the_knee_is_measured_after_the_start_and_remembered(tmp_path: Path, start: Start):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    manager = await ended(start())
    profile = manager.resolve("adder").profile
    await until(lambda: profile.knee_source == "measured")
    await until(lambda: any((tmp_path / ".cache").rglob("*.json")))
    again = await ended(start())
    assert again.resolve("adder").profile.knee_source == "cache"
    assert again.resolve("adder").profile.knee == profile.knee


class Gated:
    """y = x once its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: Tensors) -> Tensors:
        assert self.gate.wait(30)
        return {"y": inputs["x"]}


async def test_runners_follow_the_load_within_the_cores(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    signature = Signature((TensorSpec("x", "FP32", (1, 1)),), (TensorSpec("y", "FP32", (1, 1)),))
    gated = Gated()
    settings = Settings(
        models=ModelsSettings(folder=str(tmp_path)),
        runtime=RuntimeSettings(profile_cache=""),
        scaling=ScalingSettings(cores=2, interval_s=0.01, grow_after_s=0.02, target_delay_ms=1.0),
    )
    engine, metrics = Engine(), Metrics()
    manager = ModelManager(
        settings, engine, FunctionSessionProvider({"adder": FunctionSession(signature, gated)}), metrics
    )
    manager.start()
    try:
        served = (await ended(manager)).resolve("adder")
        gated.gate.clear()
        inputs = {"x": np.ones((1, 1), np.float32)}
        asked = [engine.ask(served.request(inputs, request_id="r", now=engine.clock())) for _ in range(50)]
        await until(lambda: engine.scheduler(served.key).runners == 2)
        gated.gate.set()
        assert all(isinstance(answer, Prediction) for answer in await asyncio.gather(*asked))
        assert sum(served.metrics.scaling_changes.values()) >= 1
        assert engine.scheduler(served.key).runners <= 2
    finally:
        gated.gate.set()
        await manager.stop()


def test_the_cores_are_shared_by_the_processes() -> None:
    cores = len(os.sched_getaffinity(0))
    assert scaling_policy(Settings()).cores == cores
    assert scaling_policy(Settings(server=ServerSettings(processes=cores))).cores == 1
    assert scaling_policy(Settings(scaling=ScalingSettings(cores=7), server=ServerSettings(processes=2))).cores == 7


async def test_a_model_whose_process_is_away_is_not_ready_and_says_why(tmp_path: Path):
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    session = FunctionSession(
        Signature((TensorSpec("x", "FP32", (1, 1)),), (TensorSpec("y", "FP32", (1, 1)),)),
        lambda inputs: {"y": inputs["x"]},
    )
    settings = Settings(models=ModelsSettings(folder=str(tmp_path)), runtime=RuntimeSettings(profile_cache=""))
    manager = ModelManager(settings, Engine(), FunctionSessionProvider({"adder": session}), Metrics())
    manager.start()
    try:
        await ended(manager)
        assert manager.model_readiness("adder").ready
        session.unready = "its process died"
        assert manager.model_readiness("adder").reasons == ("adder/1: its process died",)
    finally:
        await manager.stop()


class Crowded(Engine):
    """Refuses the canary so many times."""

    refusals = 3

    async def predict(self, request: Request) -> Prediction:
        if self.refusals:
            self.refusals -= 1
            raise DeadlineUnreachable("adder/1", 15.0, 1.0, 0.001, others=True)
        return await super().predict(request)


async def test_a_canary_that_a_crowded_queue_refuses_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.model_manager.CANARY_PAUSE_S", 0.0)
    tiny_models.package(tmp_path, "adder", 1, tiny_models.adder)
    settings = Settings(models=ModelsSettings(folder=str(tmp_path)), runtime=RuntimeSettings(profile_cache=""))
    engine = Crowded()
    manager = ModelManager(settings, engine, OnnxSessionProvider(), Metrics())
    manager.start()
    try:
        await ended(manager)
        assert manager.model_readiness("adder").ready
        assert engine.refusals == 0
    finally:
        await manager.stop()
