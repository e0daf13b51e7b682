"""What `glassai models` finds out: the versions in a folder, what a package declares, and everything wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.fault import nearest, one_of, quoted
from inference.model import ModelKey, ModelSpec
from inference.model_repository import (
    ModelPackage,
    choose_versions,
    odd_entries,
    read_package,
    scan,
    signature_problems,
)
from inference.runtime.isolation import provider_for
from inference.runtime.profile import BatchProfile, probe
from inference.runtime.session import OnnxSessionProvider, Session, SessionProvider
from inference.settings import Settings
from inference.start_errors import ModelPackageInvalid, StartError
from inference.tensor import TensorSpec


@dataclass(frozen=True)
class Listed:
    """One version in the models folder; `loaded`: the settings choose it."""

    model: str
    version: int
    loaded: bool
    task: str
    title: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """One version that was loaded as the server loads it; without problems, `facts` says how it will be served."""

    model: str
    problems: tuple[str, ...]
    facts: tuple[str, ...]


class NotThere(StartError):
    """The command names a model or a version that is not in the folder."""

    reason = "not_found"


def listed(settings: Settings) -> list[Listed]:
    """Every version in the folder. Raises ModelsFolderUnreadable."""
    folder = Path(settings.models.folder)
    found = []
    for name, versions in scan(folder).items():
        chosen, _ = choose_versions(versions, settings.models.versions)
        for version in versions:
            task, title, problems = "", "", ()
            try:
                package = read_package(folder, ModelKey(name, version))
                task, title = package.spec.model.task, package.spec.model.title
            except ModelPackageInvalid as error:
                problems = error.problems
            found.append(Listed(name, version, version in chosen, task, title, problems))
    return found


def checked(settings: Settings, provider: SessionProvider | None = None) -> Iterator[Checked]:
    """Each version of the folder, loaded one after the other; first the folder itself, if something is odd in it.

    Raises ModelsFolderUnreadable.
    """
    folder = Path(settings.models.folder)
    found = scan(folder)
    odd = [*odd_entries(folder), *(f"model {name} is required and not there" for name in _absent(settings, found))]
    for name, versions in found.items():
        odd += [f"model {name}: {problem}" for problem in choose_versions(versions, settings.models.versions)[1]]
    if odd:
        yield Checked(str(folder), tuple(odd), ())
    for name, versions in found.items():
        for version in versions:
            key = ModelKey(name, version)
            try:
                package, session, profile = opened(folder, key, settings, provider or OnnxSessionProvider())
            except ModelPackageInvalid as error:
                yield Checked(str(key), error.problems, ())
                continue
            except Exception as error:  # noqa: BLE001 - whatever a damaged file makes a library raise, the rest is checked
                yield Checked(str(key), (f"{type(error).__name__}: {error}",), ())
                continue
            yield Checked(str(key), (), tuple(_facts(package, session, profile)))
            session.close()


def shown(settings: Settings, name: str, version: int | None, provider: SessionProvider | None = None) -> str:
    """What one version declares, takes and answers, and how it runs here; the latest one if `version` is None.

    Raises NotThere, ModelPackageInvalid, ModelsFolderUnreadable.
    """
    folder = Path(settings.models.folder)
    found = scan(folder)
    if name not in found:
        hint = nearest(name, found)
        meant = f" Did you mean {hint!r}?" if hint else ""
        raise NotThere(f"Model {quoted(name)} is not in {folder}.{meant} There: {one_of(found)}.")
    if version is not None and version not in found[name]:
        versions = one_of(map(str, found[name]))
        raise NotThere(f"Version {version} of model {name!r} is not in {folder}. There: {versions}.")
    key = ModelKey(name, version or found[name][-1])
    package, session, profile = opened(folder, key, settings, provider or OnnxSessionProvider())
    lines = [str(key), *_declared(package), *_tensors(session), *_facts(package, session, profile)]
    session.close()
    return "\n  ".join(lines)


def opened(
    folder: Path, key: ModelKey, settings: Settings, provider: SessionProvider
) -> tuple[ModelPackage, Session, BatchProfile]:
    """Package, session and batch profile, as the server gets them. Raises ModelPackageInvalid with every problem."""
    package = read_package(folder, key)
    session = provider_for(package.spec.runtime.isolation, provider).load(package.onnx_file, settings.runtime)
    problems = signature_problems(package.spec, session.signature)
    if problems:
        session.close()
        raise ModelPackageInvalid(str(key), problems)
    return package, session, probe(session, package.example(), package.spec.limits, None)


def _absent(settings: Settings, found: dict[str, list[int]]) -> list[str]:
    return [name for name in settings.models.required if name not in found]


def _declared(package: ModelPackage) -> Iterator[str]:
    spec = package.spec
    if package.bare:
        yield "no model.toml: tensors in, tensors out"
    else:
        yield f"title: {spec.model.title}"
        yield f"about: {spec.model.description}"
        yield f"task: {spec.model.task}"
    yield f"folder: {package.folder}"
    yield f"sha256: {package.sha256}"
    yield from _inputs(spec)
    if spec.output is not None:
        threshold = f", threshold {spec.output.threshold:g}" if spec.output.kind == "binary" else ""
        yield f"meaning of {spec.output.name}: {', '.join(spec.output.labels)}{threshold}"
    if spec.calibration.method != "none":
        yield f"calibration: {spec.calibration.method}"


def _inputs(spec: ModelSpec) -> Iterator[str]:
    if spec.sensor_window is not None:
        yield f"window: {spec.sensor_window.rows} rows of"
        for feature in spec.sensor_window.features:
            bounds = f"{feature.valid_min:g} to {feature.valid_max:g} {feature.unit}"
            yield f"  {feature.name}: {bounds} (missing: {feature.when_missing}, outside: {feature.when_out_of_range})"
    if spec.image is not None:
        image = spec.image
        yield f"picture: {image.width} x {image.height} pixels, {image.channels}, resized by {image.resample}"


def _tensors(session: Session) -> Iterator[str]:
    yield f"inputs: {', '.join(map(_tensor, session.signature.inputs))}"
    yield f"outputs: {', '.join(map(_tensor, session.signature.outputs))}"


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype} {spec.protocol_shape}"


def _facts(package: ModelPackage, session: Session, profile: BatchProfile) -> Iterator[str]:
    device = session.device
    yield f"runs on: {device.provider} ({device.runtime or 'in memory'})"
    for reason in device.passed_over:
        yield f"passed over: {reason}"
    yield f"isolation: {package.spec.runtime.isolation}"
    rows = f"; at most {profile.knee} in a batch until a server has measured more" if profile.batched else ""
    yield f"batching: {profile.reason}{rows}"
    if package.example() is None:
        yield "example: none in the package; the probe made inputs from the signature"
