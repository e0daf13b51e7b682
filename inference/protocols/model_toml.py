"""model.toml <-> ModelSpec: reads what a package declares and lists everything that is wrong with it, at once."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from inference.fault import nearest, one_of, quoted
from inference.model import (
    MODEL_FORMAT,
    Calibration,
    Feature,
    ImageInput,
    ModelLimits,
    ModelSpec,
    Output,
    SensorWindow,
)

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib  # pyrefly: ignore[missing-import] - only there on Python 3.10, which has no tomllib

WINDOW_ROWS_MAX = 65_536
IMAGE_SIDE_MAX = 8192  # pixels; 200 MB of uint8 at the most for one image
BATCH_ROWS_MAX = 65_536

Table = dict[str, Any]
StructT = TypeVar("StructT", bound=msgspec.Struct)


class _Missing:
    """A value that could not be read; the problem has been noted."""


MISSING = _Missing()

# Stand in for fields that cannot be read, and are right with any value of the others.
STAND_INS: dict[type[msgspec.Struct], dict[str, Any]] = {
    Feature: {"name": "a", "unit": "", "valid_min": -math.inf, "valid_max": math.inf},
    SensorWindow: {"input": "a", "rows": 1, "features": (Feature("a", "", 0.0, 1.0),)},
    ImageInput: {"input": "a", "width": 1, "height": 1},
    Output: {"name": "a", "kind": "classes", "labels": ("a", "b")},
}


def read_model_toml(content: bytes) -> tuple[ModelSpec | None, list[str]]:
    """The spec, and the problems as sentences. There is a spec exactly if there are no problems."""
    try:
        table = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        return None, [f"is not UTF-8 text (byte {error.start})"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [f"is not TOML: {str(error) or 'nested too deeply'}"]
    reader = _Reader()
    spec = reader.struct(table, ModelSpec, "")
    if spec is not None:
        reader.problems += _spec_problems(spec, table, task_known="model" not in reader.unread)
    return (None if reader.problems else spec), reader.problems


class _Reader:
    """Walks a table along a struct's fields and goes on after each problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.unread: set[str] = set()  # sections that are there and wrong

    def struct(self, table: Table, kind: type[StructT], path: str) -> StructT | None:
        """The struct, checked, or None if one of its own fields is wrong."""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        prefix = f"{path}." if path else ""
        for name in sorted(table.keys() - fields.keys()):
            hint = nearest(name, fields)
            meant = f"{hint!r} was meant?" if hint else one_of(fields)
            self.problems.append(f"{prefix}{quoted(name)[1:-1]}: given an unknown key, accepted {meant}")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in table:
                values[name] = self.value(table[name], field.type, f"{prefix}{name}")
            elif field.required:
                self.problems.append(f"{prefix}{name}: given nothing, accepted {in_words(field.type)}")
                values[name] = MISSING
        if MISSING in values.values():
            # A section that cannot be read counts as not there, so that the others are still held against each other.
            if kind is not ModelSpec:
                self._hold_rest_against_its_bounds(values, kind, prefix)
                return None
            self.unread |= {name for name, value in values.items() if value is MISSING}
            values = {name: value for name, value in values.items() if name not in self.unread}
        struct = kind(**values)
        self.problems += [f"{prefix}{problem}" for problem in _problems(struct)]
        return struct

    def _hold_rest_against_its_bounds(self, values: dict[str, Any], kind: type[msgspec.Struct], prefix: str) -> None:
        """Report what else is wrong with a section some of whose fields cannot be read: these count as right."""
        read = {name: value for name, value in values.items() if value is not MISSING}
        whole = STAND_INS.get(kind, {}) | read
        self.problems += [f"{prefix}{problem}" for problem in _problems(kind(**whole))]

    def value(self, given: object, kind: Any, path: str) -> Any:
        """The value as its field's type, or MISSING."""
        kind = _without_none(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if not isinstance(given, dict):
                return self._refuse(given, kind, path)
            return MISSING if (struct := self.struct(given, kind, path)) is None else struct
        if get_origin(kind) is tuple:
            if not isinstance(given, list):
                return self._refuse(given, kind, path)
            items = [self.value(item, get_args(kind)[0], f"{path}[{index}]") for index, item in enumerate(given)]
            return MISSING if MISSING in items else tuple(items)
        try:
            value = msgspec.convert(given, kind)
        except msgspec.ValidationError:
            return self._refuse(given, kind, path)
        if isinstance(value, float) and not math.isfinite(value):
            return self._refuse(given, kind, path)
        return value

    def _refuse(self, given: object, kind: Any, path: str) -> _Missing:
        self.problems.append(f"{path}: given {quoted(given)}, accepted {in_words(kind)}")
        return MISSING


def in_words(kind: Any) -> str:
    """What a field of this type takes."""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list of {in_words(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"a table with {', '.join(field.name for field in msgspec.structs.fields(kind) if field.required)}"
    return {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}.get(kind, str(kind))


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


# ---- what the values mean --------------------------------------------------------------------------------------------


def _problems(struct: msgspec.Struct) -> Iterable[str]:
    match struct:
        case Feature():
            return _feature_problems(struct)
        case SensorWindow():
            return _window_problems(struct)
        case ImageInput():
            return _image_problems(struct)
        case Output():
            return _output_problems(struct)
        case Calibration() if struct.temperature <= 0:
            return [f"temperature: given {struct.temperature:g}, accepted more than 0"]
        case ModelLimits():
            return _limit_problems(struct)
        case _:
            return []


def _limit_problems(limits: ModelLimits) -> list[str]:
    problems = []
    if not 1 <= limits.batch_rows_max <= BATCH_ROWS_MAX:
        problems.append(f"batch_rows_max: given {limits.batch_rows_max}, accepted 1 to {BATCH_ROWS_MAX}")
    if limits.timeout_ms is not None and limits.timeout_ms <= 0:
        problems.append(f"timeout_ms: given {limits.timeout_ms:g}, accepted more than 0")
    return problems


def _feature_problems(feature: Feature) -> list[str]:
    problems = []
    if not feature.name:
        problems.append("name: given '', accepted the sensor's name")
    if feature.valid_min >= feature.valid_max:
        problems.append(f"valid_min: given {feature.valid_min:g}, accepted less than valid_max ({feature.valid_max:g})")
    if feature.normalisation_std <= 0:
        problems.append(f"normalisation_std: given {feature.normalisation_std:g}, accepted more than 0")
    return problems


def _window_problems(window: SensorWindow) -> list[str]:
    problems = []
    if not 1 <= window.rows <= WINDOW_ROWS_MAX:
        problems.append(f"rows: given {window.rows}, accepted 1 to {WINDOW_ROWS_MAX}")
    if window.row_interval_s < 0:
        problems.append(f"row_interval_s: given {window.row_interval_s:g}, accepted 0 (not stated) or more")
    if not window.features:
        problems.append("features: given an empty list, accepted at least one feature")
    return problems + _repeated("features", [feature.name for feature in window.features])


def _image_problems(image: ImageInput) -> list[str]:
    problems = [
        f"{name}: given {side}, accepted 1 to {IMAGE_SIDE_MAX} pixels"
        for name, side in (("width", image.width), ("height", image.height))
        if not 1 <= side <= IMAGE_SIDE_MAX
    ]
    for name, values in (
        ("normalisation_mean", image.normalisation_mean),
        ("normalisation_std", image.normalisation_std),
    ):
        if len(values) not in (0, len(image.channels)):
            problems.append(f"{name}: given {len(values)} numbers, accepted {len(image.channels)}, one a channel")
    if any(value <= 0 for value in image.normalisation_std):
        problems.append(f"normalisation_std: given {list(image.normalisation_std)}, accepted numbers above 0")
    return problems


def _output_problems(output: Output) -> list[str]:
    problems = _repeated("labels", output.labels)
    count = len(output.labels)
    if output.kind == "binary" and count != 2:
        problems.append(f"labels: given {count}, accepted 2 for kind 'binary'")
    if output.kind == "classes" and count < 2:
        problems.append(f"labels: given {count}, accepted at least 2 for kind 'classes'")
    if not 0 < output.threshold < 1:
        problems.append(f"threshold: given {output.threshold:g}, accepted a probability between 0 and 1")
    if any(not 0 < factor <= 1 for factor in output.short_history_confidence):
        problems.append("short_history_confidence: given a factor outside, accepted above 0 and at most 1")
    return problems


def _repeated(field: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    return [f"{field}: given {name!r} twice, accepted once" for name in dict.fromkeys(names) if names.count(name) > 1]


def _spec_problems(spec: ModelSpec, table: Table, *, task_known: bool) -> list[str]:
    """Problems between sections. A section counts as there if the file has it, right or wrong."""
    problems = []
    if spec.format != MODEL_FORMAT:
        problems.append(f"format: given {spec.format}, accepted {MODEL_FORMAT}")
    if not task_known:
        return problems
    task = spec.model.task
    for section in ("sensor_window", "image"):
        if section == task and section not in table:
            problems.append(f"{section}: given nothing, accepted a table [{section}], since model.task is {task!r}")
        elif section != task and section in table:
            problems.append(f"{section}: given a table, accepted only with model.task = {section!r}")
    if task != "tensors" and "output" not in table:
        problems.append(f"output: given nothing, accepted a table [output], since model.task is {task!r}")
    factors = spec.output.short_history_confidence if spec.output else ()
    if factors and task == "image":
        problems.append("output.short_history_confidence: given a list, accepted only with model.task 'sensor_window'")
    elif factors and spec.sensor_window and len(factors) != spec.sensor_window.rows:
        wanted = f"{spec.sensor_window.rows}, one for each row of the window"
        problems.append(f"output.short_history_confidence: given {len(factors)} numbers, accepted {wanted}")
    return problems
