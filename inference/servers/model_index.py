"""`/api/models`: each model version, where it stands, what it takes and how it batches."""

from __future__ import annotations

import msgspec

from inference.model import Feature
from inference.model_manager import ModelManager, VersionStatus
from inference.servers.exchange import Exchange, Response
from inference.tensor import TensorSpec


class TensorEntry(msgspec.Struct, frozen=True):
    """One input or output; a size that is not fixed is -1."""

    name: str
    datatype: str
    shape: list[int]


class BatchingEntry(msgspec.Struct, frozen=True):
    """Whether requests of the version share a session call, why, and how many rows at most."""

    batched: bool
    reason: str
    rows_max: int
    rows_max_from: str


class ModelEntry(msgspec.Struct, frozen=True):
    """One version. What only a loaded one has is null or empty for the others."""

    name: str
    version: str
    state: str
    ready: bool
    reasons: tuple[str, ...]  # why it is not ready, or was not loaded
    title: str = ""
    description: str = ""
    task: str = ""
    provider: str = ""
    passed_over: tuple[str, ...] = ()
    batching: BatchingEntry | None = None
    inputs: tuple[TensorEntry, ...] = ()
    outputs: tuple[TensorEntry, ...] = ()
    features: tuple[Feature, ...] = ()  # the sensors of a model that judges rows of them
    labels: tuple[str, ...] = ()


class ModelIndex(msgspec.Struct, frozen=True):
    """Every version of every model in the folder, by name and version."""

    models: list[ModelEntry]


async def model_index(exchange: Exchange, models: ModelManager) -> Response:
    """GET /api/models."""
    entries = [_entry(status, models) for status in models.index()]
    return Response(200, msgspec.json.encode(ModelIndex(entries)))


def _entry(status: VersionStatus, models: ModelManager) -> ModelEntry:
    readiness = models.model_readiness(status.key.name, status.key.version)
    name, version = status.key.name, str(status.key.version)
    served = status.served
    if served is None:
        return ModelEntry(name, version, status.state, readiness.ready, status.problems or readiness.reasons)
    spec, profile, device = served.spec, served.profile, served.session.device
    window = spec.sensor_window
    return ModelEntry(
        name,
        version,
        status.state,
        readiness.ready,
        readiness.reasons,
        title=spec.model.title,
        description=spec.model.description,
        task=spec.model.task,
        provider=device.provider,
        passed_over=device.passed_over,
        batching=BatchingEntry(profile.batched, profile.reason, profile.knee, profile.knee_source),
        inputs=_tensors(served.signature.inputs),
        outputs=_tensors(served.signature.outputs),
        features=window.features if window else (),
        labels=spec.output.labels if spec.output else (),
    )


def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[TensorEntry, ...]:
    return tuple(TensorEntry(spec.name, spec.datatype, spec.protocol_shape) for spec in specs)
