"""A version that answers: what it takes, how its records become tensors, how it batches, what its calls get."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference.decisions.admission import AdmissionPolicy
from inference.decisions.background_share import BackgroundPolicy
from inference.decisions.runner_load import RunnerBounds
from inference.decisions.scheduler import QueuePolicy
from inference.lane import Service
from inference.model import ModelKey, ModelSpec, Signature
from inference.model_repository import ModelPackage
from inference.monitoring.counters import VersionMetrics
from inference.pipeline.build import Pipeline
from inference.protocols.call_limits import NO_LIMITS, PRIORITIES, CallLimits
from inference.request import Priority, Request
from inference.runtime.profile import BatchProfile
from inference.runtime.session import Session
from inference.settings import Settings
from inference.tensor import Tensors, byte_count

SHAPES_KEPT = 256  # of inputs that were found to fit, some 500 bytes each
Facts = tuple[int, int, tuple[tuple[int, ...], ...]]


@dataclass(slots=True, eq=False)
class ServedModel:
    """A version that answers: what it takes, how its records become tensors, how it batches."""

    package: ModelPackage
    signature: Signature
    session: Session
    pipeline: Pipeline
    profile: BatchProfile
    metrics: VersionMetrics
    timeout_max_s: float
    key: ModelKey = field(init=False)
    label: str = field(init=False)  # the key as text
    _input_names: tuple[str, ...] = field(init=False)
    _known: dict[tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...], Facts] = field(
        init=False, default_factory=dict
    )
    _priority: Priority = field(init=False)
    _timeout_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.package.key
        self.label = str(self.key)
        self._input_names = tuple(spec.name for spec in self.signature.inputs)
        limits = self.package.spec.limits
        self._priority = PRIORITIES[limits.priority]
        own_s = self.timeout_max_s if limits.timeout_ms is None else limits.timeout_ms / 1000
        self._timeout_s = min(own_s, self.timeout_max_s)

    @property
    def spec(self) -> ModelSpec:
        """What the package declares."""
        return self.package.spec

    @property
    def bare(self) -> bool:
        """True for a model.onnx without a model.toml."""
        return self.package.bare

    def request(
        self,
        tensors: Tensors,
        *,
        request_id: str,
        now: float,
        limits: CallLimits = NO_LIMITS,
        parameters: Hashable = (),
    ) -> Request:
        """A Request for these inputs that came at `now`. Raises InvalidTensor that names every misfit."""
        facts = self._known.get(tuple([(name, array.dtype, array.shape) for name, array in tensors.items()]))
        if facts is None:
            facts = self._facts_of(tensors)
        rows, size, shapes = facts
        priority, deadline_s = self.place(now, limits)
        return Request(request_id, self.key, tensors, rows, size, (shapes, parameters), deadline_s, now, priority)

    def _facts_of(self, tensors: Tensors) -> Facts:
        """Rows, bytes and shapes without axis 0 of these inputs. Raises InvalidTensor that names every misfit.

        They are kept for inputs of the same names, dtypes and shapes, but for strings, which differ in size.
        """
        self.signature.check(self.label, tensors)  # so names and dtypes are equal over all requests of a version
        rows = 1
        shapes: tuple[tuple[int, ...], ...] = ()
        if self.profile.batched:  # so all inputs name axis 0 alike, and the check has made their sizes equal
            shapes = tuple([tensors[name].shape for name in self._input_names])
            rows = shapes[0][0]
            shapes = tuple([shape[1:] for shape in shapes])
        facts = rows, byte_count(tensors), shapes
        if not any(array.dtype == np.object_ for array in tensors.values()):
            if len(self._known) >= SHAPES_KEPT:
                self._known.clear()
            self._known[tuple([(name, array.dtype, array.shape) for name, array in tensors.items()])] = facts
        return facts

    def place(self, now: float, limits: CallLimits) -> tuple[Priority, float]:
        """Band and deadline of a call that came at `now`: its own limits, else the model's."""
        priority, timeout_s = limits
        due_s = self._timeout_s if timeout_s is None or timeout_s > self.timeout_max_s else timeout_s
        return self._priority if priority is None else priority, now + due_s

    def queue_policy(self, settings: Settings) -> QueuePolicy:
        """How its queue is served."""
        knee = self.profile.knee if self.profile.batched else None
        background = BackgroundPolicy(settings.background.batch_ms_max / 1000, settings.background.share_min)
        return QueuePolicy(self.label, knee, settings.queue.patience_s, background)

    def service(self, settings: Settings) -> Service:
        """What the engine needs to serve it."""
        scaling = settings.scaling
        runners_max = scaling.runners_max if scaling.enabled else scaling.runners_min
        return Service(
            self.key,
            self.session,
            self.queue_policy(settings),
            AdmissionPolicy(self.label, settings.queue.rows_max, settings.queue.bytes_max, settings.queue.ms_max),
            RunnerBounds(scaling.runners_min, runners_max, settings.runtime.intra_op_threads),
            self.profile.batched,
            self.profile.canary,
            self.metrics,
            self.profile.probed,
            self.profile.timings_s,
            self.session.bounded and self.profile.batched,
        )
