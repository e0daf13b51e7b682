"""A loaded model that runs: the one narrow door to ONNX Runtime, which is imported here and nowhere else.

The import happens when the first model is loaded, so that whoever only names a Session does not pay for it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.device import Device
from inference.model import Signature
from inference.model_repository import external_data_problems
from inference.protocols.onnx_file import OnnxFacts, read_onnx
from inference.runtime.cause import cause_of
from inference.runtime.devices import PROVIDER_LIBRARIES, Candidate, candidates, not_initialised
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import ONNX_TYPES, Tensors, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

SEVERITY_FATAL = 4  # ONNX Runtime says everything else in its exceptions as well
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # TF32 rounds to 10 bits of mantissa, differently for each batch size; an answer must not depend on its batch.
    "CUDAExecutionProvider": {"use_tf32": "0"},
}


class RunStopped(Exception):
    """A run ended because its seat was told to stop."""


class Seat(Protocol):
    """A runner's own way into a Session: one run at a time, which any other thread can stop."""

    def run(self, inputs: Tensors) -> Tensors:
        """As Session.run. Raises RunStopped if it was stopped, before it began or in the middle."""
        ...

    def stop(self) -> None:
        """End the run as soon as the model can be ended, and every one after it; callable from any thread.

        A run that has its answer already may still give it.
        """
        ...

    def reset(self) -> None:
        """Runs go on after a `stop`."""
        ...

    def close(self) -> None:
        """The runner is gone. Nobody may be inside `run`."""
        ...


class Session(Protocol):
    """A loaded ModelVersion on one Device. `run` may be called from several threads at once."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        ...

    @property
    def device(self) -> Device:
        """Where it runs."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether a run always ends: it happens in the caller's thread, its work follows from shapes that are fixed but
        for axis 0, and nothing in it repeats until a value says otherwise."""
        ...

    @property
    def unready(self) -> str:
        """Why it cannot run now, for a model that has lost its process; else ""."""
        ...

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name. Inputs must fit the signature; BYTES are object arrays of `str`, in and out.

        Whatever the runtime raises comes through as it is. Raises RunCrashed or ModelNotReady if the model has a
        process of its own and that died, or has not come back yet.
        """
        ...

    def seat(self) -> Seat:
        """A way in for one more runner."""
        ...

    def close(self) -> None:
        """Give the memory back. Nobody may be inside `run`."""
        ...


class SessionProvider(Protocol):
    """Loads models."""

    def load(self, onnx_file: Path, options: RuntimeSettings) -> Session:
        """A session that is ready to run. Raises ModelPackageInvalid with every reason why there is none."""
        ...


class OnnxSession:
    """A model in ONNX Runtime."""

    unready = ""  # it runs as long as this process does

    def __init__(
        self, session: onnxruntime.InferenceSession, signature: Signature, device: Device, *, bounded: bool = False
    ) -> None:
        self.bounded = bounded
        self.signature = signature
        self.device = device
        self._run: Callable[..., Sequence[Any]] = session.run  # the only hold on the model
        self._output_names = [spec.name for spec in signature.outputs]

    def run(self, inputs: Tensors, options: onnxruntime.RunOptions | None = None) -> Tensors:
        """All outputs by name; see Session. `options`: those of a seat."""
        outputs: Sequence[Any] = self._run(self._output_names, inputs, options)
        return dict(zip(self._output_names, outputs, strict=True))

    def seat(self) -> OnnxSeat:
        """See Session."""
        return OnnxSeat(self, import_onnxruntime().RunOptions())

    def close(self) -> None:
        """Drop the model; a `run` after it raises RuntimeError."""
        self._run = _closed


class OnnxSeat:
    """A seat at a model in ONNX Runtime, which looks at the terminate flag before each operator.

    One operator that never ends, such as a huge product, is not stopped by it.
    """

    def __init__(self, session: OnnxSession, options: onnxruntime.RunOptions) -> None:
        self._session = session
        self._options = options

    def run(self, inputs: Tensors) -> Tensors:
        """See Seat."""
        try:
            return self._session.run(inputs, self._options)
        except Exception as error:
            if self._options.terminate:
                raise RunStopped from error
            raise

    def stop(self) -> None:
        """See Seat."""
        self._options.terminate = True

    def reset(self) -> None:
        """See Seat."""
        self._options.terminate = False

    def close(self) -> None:
        """Nothing to give back."""


def _closed(*_: object) -> Any:
    raise RuntimeError("the session is closed")


class OnnxSessionProvider:
    """Loads ONNX files on the first of the wanted execution providers that works."""

    def load(self, onnx_file: Path, options: RuntimeSettings) -> OnnxSession:
        """A session of this file. Raises ModelPackageInvalid: unreadable, unsafe external data, types or operators
        that are not supported, or no execution provider that works."""
        model = model_label(onnx_file)
        facts = _facts(model, onnx_file)
        ort = import_onnxruntime()
        wanted, passed_over = candidates(options.providers, ort.get_available_providers())
        for candidate in wanted:
            last = candidate is wanted[-1]
            try:
                session = _open(ort, onnx_file, options, candidate)
            except Exception as error:  # a bad file raises one of a dozen classes without a common base
                if last:
                    raise ModelPackageInvalid(model, [f"model.onnx: {cause_of(error)}", *passed_over]) from error
                passed_over.append(not_initialised(candidate.provider, cause_of(error)))
                continue
            if session.get_providers()[0] == candidate.classes[0]:
                device = Device(
                    candidate.provider, tuple(passed_over), f"onnxruntime {ort.__version__}", options.intra_op_threads
                )
                signature = _signature(model, session, facts)
                return OnnxSession(session, signature, device, bounded=_is_bounded(facts, signature, device))
            passed_over.append(not_initialised(candidate.provider, _library_problem(ort, candidate)))
        raise ModelPackageInvalid(model, ["none of the execution providers that are set works", *passed_over])


def import_onnxruntime() -> Any:
    """The onnxruntime module, imported with its telemetry off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.set_default_logger_severity(SEVERITY_FATAL)
    return onnxruntime


def model_label(onnx_file: Path) -> str:
    """How messages name the model of this file: NAME/VERSION, or the file where that is not to be seen."""
    place = onnx_file.parent
    return f"{place.parent.name}/{place.name}" if place.name.isdigit() else onnx_file.name


def _is_bounded(facts: OnnxFacts, signature: Signature, device: Device) -> bool:
    """See Session. A device of its own may keep a caller waiting whatever the shapes."""
    specs = (*signature.inputs, *signature.outputs)
    fixed = all(spec.ranked and all(isinstance(size, int) for size in spec.shape[1:]) for spec in specs)
    return fixed and not facts.control_flow and device.provider == "cpu" and device.threads == 1


def _facts(model: str, onnx_file: Path) -> OnnxFacts:
    try:
        facts = read_onnx(onnx_file.read_bytes())
    except OSError as error:
        raise ModelPackageInvalid(model, [f"{onnx_file.name}: cannot be read ({error.strerror})"]) from error
    except ValueError as error:
        raise ModelPackageInvalid(model, [f"{onnx_file.name}: {error}"]) from error
    problems = external_data_problems(onnx_file.parent, facts.external_files)
    if problems:
        raise ModelPackageInvalid(model, problems)
    return facts


def _open(ort: Any, onnx_file: Path, options: RuntimeSettings, candidate: Candidate) -> onnxruntime.InferenceSession:
    choices = ort.SessionOptions()
    choices.log_severity_level = SEVERITY_FATAL
    choices.intra_op_num_threads = options.intra_op_threads
    choices.inter_op_num_threads = options.inter_op_threads
    parallel = options.inter_op_threads > 1
    choices.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    spinning = "1" if options.spinning else "0"
    choices.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    choices.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    # The arena would keep the memory of the largest batch for ever (measured: 120 MB for two models that need 35 MB),
    # memory patterns a plan for each batch size that was ever seen; neither makes a call measurably faster.
    choices.enable_cpu_mem_arena = False
    choices.enable_mem_pattern = False
    provider_options = [PROVIDER_OPTIONS.get(name, {}) for name in candidate.classes]
    return ort.InferenceSession(
        os.fspath(onnx_file),
        choices,
        providers=list(candidate.classes),
        provider_options=provider_options,
        enable_fallback=0,  # a provider that fails is reported, never exchanged in silence
    )


def _library_problem(ort: Any, candidate: Candidate) -> str:
    """Why ONNX Runtime left a provider out: what the loader says of its library, since ONNX Runtime raises nothing."""
    library = Path(ort.__file__).parent / "capi" / PROVIDER_LIBRARIES.get(candidate.provider, "")
    try:
        ctypes.CDLL(os.fspath(library))
    except OSError as error:
        return str(error)
    return "ONNX Runtime did not say why; its driver or device is missing"


def _signature(model: str, session: onnxruntime.InferenceSession, facts: OnnxFacts) -> Signature:
    problems: list[str] = []
    specs = [
        [_spec(role, argument, facts, problems) for argument in arguments]
        for role, arguments in (("input", session.get_inputs()), ("output", session.get_outputs()))
    ]
    if problems:
        raise ModelPackageInvalid(model, problems)
    return Signature(tuple(specs[0]), tuple(specs[1]))


def _spec(role: str, argument: Any, facts: OnnxFacts, problems: list[str]) -> TensorSpec:
    datatype = ONNX_TYPES.get(argument.type)
    if datatype is None:
        accepted = ", ".join(ONNX_TYPES)
        problems.append(f"{role} {argument.name!r}: given {argument.type}, accepted a tensor: one of {accepted}")
        datatype = ""
    shape = tuple(_dim(dim) for dim in argument.shape)
    return TensorSpec(argument.name, datatype, shape, bool(shape) or argument.name not in facts.open_rank)


def _dim(dim: object) -> int | str | None:
    """A size as ONNX Runtime tells it; an empty name or a negative size is no more than unknown."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return dim if isinstance(dim, str) and dim else None
