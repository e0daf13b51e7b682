"""The control path: which versions are served. Loads, probes, opens them to the engine and asks for signs of life.

A model that cannot be loaded is reported with all its reasons and keeps no other from being served.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from inference.decisions.runner_need import ScalingPolicy
from inference.decisions.scaling import Grow, Scaling
from inference.engine import Engine
from inference.errors import (
    DeadlineUnreachable,
    InferenceError,
    InputsRejected,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    RunFailed,
    VersionNotFound,
)
from inference.model import ModelKey
from inference.model_repository import choose_versions, read_package, scan, signature_problems
from inference.monitoring.counters import VersionMetrics
from inference.pipeline.build import build_pipeline
from inference.pipeline.sensor_window import SensorWindowInput
from inference.protocols.call_limits import CallLimits
from inference.request import Priority, Request
from inference.runtime.isolation import provider_for
from inference.runtime.knee import KneeMeasurement
from inference.runtime.profile import probe
from inference.runtime.profile_cache import ProfileCache
from inference.runtime.session import SessionProvider
from inference.served_model import ServedModel
from inference.settings import Settings
from inference.start_errors import ModelPackageInvalid

log = logging.getLogger(__name__)

LOADERS = 2  # threads that load versions side by side at start
CANARY_TRIES, CANARY_PAUSE_S = 20, 0.05  # while a crowded queue refuses it
QUIET_PAUSE_S = 0.02  # between two steps of a knee measurement, so that it never fills a core

State = Literal["loading", "ready", "failed"]


class MetricsSource(Protocol):
    """Where the counters of a version come from (`monitoring.metrics.Metrics`)."""

    def for_version(self, key: ModelKey) -> VersionMetrics:
        """The counters of one version."""
        ...


@dataclass(slots=True, eq=False)
class VersionStatus:
    """Where a version stands: why it failed, when its canary last answered (seconds of the engine's clock)."""

    key: ModelKey
    state: State = "loading"
    problems: tuple[str, ...] = ()
    served: ServedModel | None = None
    answered_s: float | None = None


@dataclass(slots=True, frozen=True)
class Readiness:
    """Ready or not, and every reason why not."""

    ready: bool
    reasons: tuple[str, ...] = field(default=())


class ModelManager:
    """The versions of one models folder, from `start` to `stop`. Belongs to the engine's loop."""

    def __init__(self, settings: Settings, engine: Engine, provider: SessionProvider, metrics: MetricsSource) -> None:
        self._settings = settings
        self._engine = engine
        self._provider = provider
        self._metrics = metrics
        self._profiles = ProfileCache(settings.runtime.profile_cache)
        self._scaling = Scaling(scaling_policy(settings))
        self._versions: dict[ModelKey, VersionStatus] = {}
        self._latest: dict[str, VersionStatus] = {}
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="loader")
        self._tasks: set[asyncio.Task[None]] = set()
        self.problems: list[str] = []  # of the folder as a whole

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look through the folder and begin to load. Raises ModelsFolderUnreadable."""
        folder = Path(self._settings.models.folder)
        found = scan(folder)
        for name, versions in found.items():
            chosen, problems = choose_versions(versions, self._settings.models.versions)
            self.problems += [f"model {name}: {problem}" for problem in problems]
            for version in chosen:
                status = VersionStatus(ModelKey(name, version))
                self._versions[status.key] = status
                self._latest[name] = status  # versions come in rising order
        for problem in self.problems:
            log.error("%s", problem)
        self._spawn(self._load_all(folder))
        if self._settings.scaling.enabled:
            self._spawn(self._keep_scaling())

    async def stop(self) -> None:
        """Close every version. The engine has been drained before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for status in self._versions.values():
            if status.served is not None:
                self._engine.close(status.key)
                status.served.session.close()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- questions ---------------------------------------------------------------------------------------------------

    def resolve(self, name: str, version: int | None = None) -> ServedModel:
        """The version that answers. Raises ModelNotFound, VersionNotFound or ModelNotReady."""
        status = self._latest.get(name) if version is None else self._versions.get(ModelKey(name, version))
        if status is not None and status.served is not None:
            return status.served
        status = self.status(name, version)
        raise ModelNotReady(str(status.key), status.state, status.problems)

    def status(self, name: str, version: int | None = None) -> VersionStatus:
        """Where a version stands. Raises ModelNotFound or VersionNotFound."""
        latest = self._latest.get(name)
        if latest is None:
            raise ModelNotFound(name, self._latest)
        if version is None:
            return latest
        status = self._versions.get(ModelKey(name, version))
        if status is None:
            raise VersionNotFound(name, str(version), self.versions(name))
        return status

    def names(self) -> list[str]:
        """The models of the folder."""
        return list(self._latest)

    def versions(self, name: str) -> list[int]:
        """The versions of a model that are served, loading or failed."""
        return [key.version for key in self._versions if key.name == name]

    def index(self) -> list[VersionStatus]:
        """Every version, in the order of names and versions."""
        return [self._versions[key] for key in sorted(self._versions)]

    def readiness(self) -> Readiness:
        """Whether every required model answers; without required models, whether every load has ended."""
        required = self._settings.models.required
        reasons = [reason for name in required for reason in self.model_readiness(name).reasons]
        if not required:
            loading = [str(s.key) for s in self._versions.values() if s.state == "loading"]
            reasons = [f"{key}: loading" for key in loading]
        if self._engine.stopping:
            reasons.append("the server is stopping")
        return Readiness(not reasons, tuple(reasons))

    def model_readiness(self, name: str, version: int | None = None) -> Readiness:
        """Whether this version's canary has answered lately. An unknown name is not ready, and says so."""
        try:
            status = self.status(name, version)
        except (ModelNotFound, VersionNotFound) as error:
            return Readiness(False, (str(error),))
        if status.state != "ready":
            why = ": " + "; ".join(status.problems) if status.problems else ""
            return Readiness(False, (f"{status.key}: {status.state}{why}",))
        limit_s = self._settings.health.canary_max_age_s
        if (hung_s := self._engine.hung_s(status.key)) is not None:
            return Readiness(False, (f"{status.key}: a run has taken longer than {hung_s:g} s and was given up",))
        if status.served is not None and (why := status.served.session.unready):
            return Readiness(False, (f"{status.key}: {why}",))
        if status.answered_s is None:
            return Readiness(False, (f"{status.key}: its canary has not answered yet",))
        age_s = self._engine.clock() - status.answered_s
        if age_s > limit_s:
            reason = f"{status.key}: its canary last answered {age_s:.1f} s ago, the limit is {limit_s:g} s"
            return Readiness(False, (reason,))
        return Readiness(True)

    # ---- loading -----------------------------------------------------------------------------------------------------

    async def _load_all(self, folder: Path) -> None:
        await asyncio.gather(*(self._load(folder, status) for status in list(self._versions.values())))
        log.info("all loads have ended: %d ready, %d failed", self._count("ready"), self._count("failed"))
        for status in self.index():
            if status.served is not None and status.served.profile.knee_source == "probe":
                await self._measure_knee(status.served)

    def _count(self, state: State) -> int:
        return sum(status.state == state for status in self._versions.values())

    async def _load(self, folder: Path, status: VersionStatus) -> None:
        loop = asyncio.get_running_loop()
        try:
            served = await loop.run_in_executor(self._loaders, self._open_package, folder, status.key)
        except ModelPackageInvalid as error:
            status.state, status.problems = "failed", error.problems
            log.error("%s", error)  # noqa: TRY400 - its sentence lists every problem, a traceback adds none
            return
        except Exception as error:  # one package must never keep the others from being served
            status.state, status.problems = "failed", (f"{type(error).__name__}: {error}",)
            log.exception("model %s cannot be loaded", status.key)
            return
        self._engine.open(served.service(self._settings))
        status.served, status.state = served, "ready"
        self._show_gauges(status, served)
        log.info("model %s is served: %s", status.key, served.profile.reason)
        for reason in served.session.device.passed_over:
            log.info("model %s runs on %s; passed over: %s", status.key, served.session.device.provider, reason)
        await self._ask_canary(status)
        self._spawn(self._keep_asking(status))

    def _show_gauges(self, status: VersionStatus, served: ServedModel) -> None:
        scheduler = self._engine.scheduler(status.key)
        watch = served.metrics.watch
        watch("glassai_queue_rows", lambda: scheduler.waiting_rows)
        watch("glassai_queue_bytes", lambda: scheduler.waiting_bytes)
        watch("glassai_requests_pending", lambda: scheduler.live_requests)
        watch("glassai_runners", lambda: scheduler.runners)
        watch("glassai_runners_idle", lambda: scheduler.idle_runners)
        watch("glassai_runners_wanted", lambda: self._scaling.wanted(status.key))
        watch("glassai_runner_utilisation", lambda: self._scaling.utilisation(status.key))
        watch("glassai_batch_rows_limit", lambda: scheduler.policy.batch_rows_max or 1)
        watch("glassai_background_requests", lambda: scheduler.background.requests)
        watch("glassai_background_rows", lambda: scheduler.background.rows_run)
        watch("glassai_background_busy_seconds", lambda: scheduler.background.busy_s)
        watch("glassai_model_ready", lambda: self.model_readiness(*status.key).ready)
        inputs = served.pipeline.inputs
        if isinstance(inputs, SensorWindowInput):
            watch("glassai_lines", lambda: len(inputs.lines))
            watch("glassai_line_gaps", lambda: inputs.lines.gaps)

    def _open_package(self, folder: Path, key: ModelKey) -> ServedModel:
        """Everything slow about a load; in a loader's thread. Raises ModelPackageInvalid with all problems."""
        package = read_package(folder, key)
        provider = provider_for(package.spec.runtime.isolation, self._provider)
        session = provider.load(package.onnx_file, self._settings.runtime)
        problems = signature_problems(package.spec, session.signature)
        if problems:
            session.close()
            raise ModelPackageInvalid(str(key), problems)
        example = package.example()
        cached_knee = self._profiles.read(package.sha256, session.device)
        profile = probe(session, example, package.spec.limits, cached_knee)
        pipeline = build_pipeline(package.spec, session.signature, self._settings)
        metrics = self._metrics.for_version(key)
        timeout_max_s = self._settings.server.request_timeout_s
        return ServedModel(package, session.signature, session, pipeline, profile, metrics, timeout_max_s)

    # ---- runners -----------------------------------------------------------------------------------------------------

    async def _keep_scaling(self) -> None:
        """Let the runners of all versions follow the load."""
        while True:
            await asyncio.sleep(self._settings.scaling.interval_s)
            try:
                self._scale()
            except Exception:  # the next look may go well; without any, runners would stay as they are in silence
                log.exception("the runners could not be fitted to the load")

    def _scale(self) -> None:
        engine = self._engine
        for change in self._scaling.evaluate(engine.loads(), engine.clock()):
            served = self.resolve(*change.key)
            grow = isinstance(change, Grow)
            (engine.grow if grow else engine.shrink)(change.key, change.by)
            served.metrics.count_scaling("up" if grow else "down", change.cause, change.by)
            verb = "more" if grow else "fewer"
            log.info("model %s: runners: %d %s (%s)", change.key, change.by, verb, change.cause)

    # ---- signs of life -----------------------------------------------------------------------------------------------

    async def _keep_asking(self, status: VersionStatus) -> None:
        while True:
            await asyncio.sleep(self._settings.health.canary_interval_s)
            await self._ask_canary(status)

    async def _ask_canary(self, status: VersionStatus) -> None:
        """One inference through the real path: queue, runner, session."""
        served = status.served
        assert served is not None
        now = self._engine.clock()
        limits = CallLimits(Priority.CRITICAL, self._settings.health.canary_max_age_s)
        request = served.request(served.profile.canary, request_id="canary", now=now, limits=limits)
        try:
            await self._predict_canary(request)
        except (InputsRejected, RunFailed) as error:
            if served.profile.probed:
                log.warning("the canary of model %s failed: %s", status.key, error)
                return  # else nobody knows inputs that run, and an error shows as well that the runner lives
        except InferenceError as error:
            log.warning("the canary of model %s was not answered: %s", status.key, error)
            return
        status.answered_s = self._engine.clock()

    async def _predict_canary(self, request: Request) -> None:
        """Ask again when a crowded queue has refused it: who is refused now and then is no less alive. Raises the last
        InferenceError."""
        for _ in range(CANARY_TRIES - 1):
            try:
                await self._engine.predict(request)
            except (QueueFull, DeadlineUnreachable) as refusal:  # noqa: PERF203 - it waits anyway
                await asyncio.sleep(max(refusal.retry_after_s or 0.0, CANARY_PAUSE_S))
            else:
                return
        await self._engine.predict(request)

    # ---- the knee ----------------------------------------------------------------------------------------------------

    async def _measure_knee(self, served: ServedModel) -> None:
        """Find the batch beyond which rows/s no longer grow, on a runner that would idle, step by step."""
        if not served.profile.batched:
            return
        measurement = KneeMeasurement(served.session, served.profile.canary, served.spec.limits)
        while (rows := measurement.next_step()) is not None:
            await self._engine.when_quiet(served.key, lambda rows=rows: measurement.measure(rows))
            await asyncio.sleep(QUIET_PAUSE_S)
        knee = measurement.result()
        served.profile.knee, served.profile.knee_source = knee, "measured"
        self._engine.change_policy(served.key, served.queue_policy(self._settings))
        loop = asyncio.get_running_loop()
        write = self._profiles.write
        await loop.run_in_executor(self._loaders, write, served.package.sha256, served.session.device, knee)
        log.info("model %s: batches of up to %d rows, as measured", served.key, knee)


def cores_of(settings: Settings) -> int:
    """Cores that this process may use, its share of them where there are several."""
    return max(1, len(os.sched_getaffinity(0)) // settings.server.processes)


def scaling_policy(settings: Settings) -> ScalingPolicy:
    """The settings of `scaling`, with the cores that this process may use."""
    scaling = settings.scaling
    return ScalingPolicy(
        scaling.cores or cores_of(settings),
        scaling.target_delay_ms / 1000,
        scaling.interval_s,
        scaling.grow_after_s,
        scaling.shrink_after_s,
    )
