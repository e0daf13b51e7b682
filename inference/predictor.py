"""Predictions in the caller's own process and thread: no server, no queue, no event loop.

The same files, checks and numbers as through the server. A reinforcement-learning loop calls `predict` for one state,
or `predict_many` for an array of states.
"""

from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from inference.errors import InvalidValues, NonFiniteOutput
from inference.fault import Fault
from inference.model import ModelKey, ModelSpec
from inference.model_repository import (
    MODEL_FILE,
    TOML_FILE,
    VERSION,
    ModelPackage,
    read_package_folder,
    signature_problems,
)
from inference.pipeline.build import build_pipeline
from inference.pipeline.postprocess import PlainOutput, Predictions
from inference.protocols.inference_json import Result
from inference.runtime.isolation import provider_for
from inference.runtime.profile import KneeMeasurement, ProfileCache, probe
from inference.runtime.session import OnnxSessionProvider
from inference.settings import RuntimeSettings, Settings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Array, Tensors


class Predictor:
    """A model, loaded and ready; several threads may use it at once.

    `path` is a model's folder (its highest version is taken), the folder of one version, or any ONNX file. Raises
    ModelPackageInvalid, which names everything that is wrong with it.
    """

    def __init__(self, path: str | Path, runtime: RuntimeSettings | None = None) -> None:
        settings = Settings(runtime=runtime or RuntimeSettings())
        self.package = _package(Path(path))
        self.key = self.package.key
        provider = provider_for(self.package.spec.runtime.isolation, OnnxSessionProvider())
        self._session = provider.load(self.package.onnx_file, settings.runtime)
        self.signature = self._session.signature
        problems = signature_problems(self.package.spec, self.signature)
        if problems:
            self._session.close()
            raise ModelPackageInvalid(str(self.key), problems)
        self._profiles = ProfileCache(settings.runtime.profile_cache)
        cached_knee = self._profiles.read(self.package.sha256, self._session.device)
        self.profile = probe(self._session, self.package.example(), self.package.spec.limits, cached_knee)
        pipeline = build_pipeline(self.package.spec, self.signature, settings)
        self._inputs, self._outputs = pipeline.inputs, pipeline.outputs
        self._plain = isinstance(pipeline.outputs, PlainOutput)

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the model's memory back. The predictor answers no more."""
        self._session.close()

    def predict(self, given: object) -> Result:
        """The result for one input, as the server gives it.

        A model of sensor windows takes FP32 [rows, features], or one or more rows as mappings with names, oldest
        first; a shorter history is filled by repeating its first row. An image model takes the bytes of a JPEG or PNG
        file, or UINT8 [height, width, 3]. Any other model takes {input name: array} and gives {output name: array}.
        Raises CallerError, NonFiniteOutput.
        """
        started_s = perf_counter()
        prepared = self._inputs.prepare_one(given)
        if self._plain:
            self.signature.check(str(self.key), prepared.tensors)
        outputs = self._session.run(prepared.tensors)
        self._refuse_non_finite(outputs)
        if self._plain:
            return outputs
        return self._outputs.result(outputs, prepared, perf_counter() - started_s)

    def predict_many(self, given: object) -> Predictions | Tensors:
        """The answers for n inputs, run in batches of the size beyond which rows/s no longer grow.

        Takes FP32 [n, rows, features], UINT8 [n, height, width, 3], a sequence of image files, or {input name: array
        with n rows}, which gives {output name: array with n rows}. The first call with many inputs measures that size,
        for less than a second, if no earlier process of this machine has. Raises CallerError, NonFiniteOutput.
        """
        tensors = self._inputs.prepare_many(given)
        if self._plain:
            self._check_many(tensors)
        rows = next(iter(tensors.values())).shape[0]
        if not rows:
            raise InvalidValues([Fault("input", "0 rows", "at least one row")])
        step = self._batch_rows(rows)
        outputs = self._session.run(_rows(tensors, 0, step))
        if rows > step:
            parts = [outputs, *(self._session.run(_rows(tensors, i, i + step)) for i in range(step, rows, step))]
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        self._refuse_non_finite(outputs)
        return self._outputs.many(outputs)

    async def apredict(self, given: object) -> Result:
        """`predict` in a thread, for callers on an event loop."""
        import asyncio

        return await asyncio.to_thread(self.predict, given)

    async def apredict_many(self, given: object) -> Predictions | Tensors:
        """`predict_many` in a thread, for callers on an event loop."""
        import asyncio

        return await asyncio.to_thread(self.predict_many, given)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _batch_rows(self, rows: int) -> int:
        """Rows a session call: the knee, measured now if nobody has and it matters."""
        profile = self.profile
        if not profile.batched:
            return 1
        if profile.knee_source == "probe" and rows > profile.knee:
            measurement = KneeMeasurement(self._session, profile.canary, self.package.spec.limits)
            while (step := measurement.next_step()) is not None:
                measurement.measure(step)
            profile.knee, profile.knee_source = measurement.result(), "measured"
            self._profiles.write(self.package.sha256, self._session.device, profile.knee)
        return profile.knee

    def _check_many(self, tensors: Tensors) -> None:
        self.signature.check(str(self.key), tensors)
        if not self.profile.batched:
            accepted = f"one call of `predict` for each: {self.profile.reason}"
            raise InvalidValues([Fault("input", "many rows", accepted)])

    def _refuse_non_finite(self, outputs: Tensors) -> None:
        for array in outputs.values():
            if not _finite(array):
                bad = [name for name, array in outputs.items() if not _finite(array)]
                raise NonFiniteOutput(str(self.key), bad)


def _finite(array: Array) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    if array.dtype.kind != "f":
        return True
    if array.size == 1:  # a twentieth of the time of the general form
        return math.isfinite(array.item())
    return bool(np.isfinite(array).all())


def _rows(tensors: Tensors, start: int, stop: int) -> Tensors:
    return {name: array[start:stop] for name, array in tensors.items()}


def _package(path: Path) -> ModelPackage:
    """The package at `path`: models/<name>, models/<name>/<version>, or an ONNX file. Raises ModelPackageInvalid."""
    path = path.expanduser().resolve()
    if path.is_file():
        if path.name == MODEL_FILE and (path.parent / TOML_FILE).exists():
            return _version(path.parent)
        key = ModelKey(path.stem, 1)
        return ModelPackage(key, path.parent, path, ModelSpec(), bare=True, sha256="")
    if (path / MODEL_FILE).exists():
        return _version(path)
    versions = [child for child in path.glob("*") if VERSION.fullmatch(child.name)]
    if not versions:
        accepted = f"a model's folder, the folder of one version (with {MODEL_FILE} in it), or an ONNX file"
        raise ModelPackageInvalid(str(path), [f"no model is there; accepted: {accepted}"])
    return _version(max(versions, key=lambda child: int(child.name)))


def _version(place: Path) -> ModelPackage:
    number = int(place.name) if VERSION.fullmatch(place.name) else 1
    return read_package_folder(place, ModelKey(place.parent.name, number))
