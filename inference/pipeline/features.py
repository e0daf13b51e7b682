"""One row of sensor values, checked against what the model was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.errors import InvalidValues, UnknownField
from inference.fault import Fault, quoted
from inference.model import Feature

TIMESTAMP = "timestamp"
NOTHING: Sequence[tuple[int, Fault]] = ()


@dataclass(slots=True)
class Reading:
    """The values of one row in the order of the features; a gap (feature, fault) may be filled from the row before."""

    values: list[float]
    gaps: Sequence[tuple[int, Fault]] = NOTHING
    faults: Sequence[Fault] = ()

    def filled(self, previous: Sequence[float] | None) -> tuple[list[float], int]:
        """All values, and a bit set of the features that hold the `previous` row's value.

        Raises InvalidValues that names every fault, and every gap if there is no previous row.
        """
        if not self.gaps and not self.faults:
            return self.values, 0
        if self.faults or previous is None:
            unfilled = self.gaps if previous is None else NOTHING
            raise InvalidValues([*self.faults, *(fault for _, fault in unfilled)])
        held = 0
        for index, _ in self.gaps:
            self.values[index] = previous[index]
            held |= 1 << index
        return self.values, held


class FeatureCheck:
    """Reads rows of named values. Every problem of a row is found before one is reported."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self._bounds = [(feature.name, feature.valid_min, feature.valid_max) for feature in features]
        self._known = (*(feature.name for feature in features), TIMESTAMP)

    def read(self, fields: Mapping[str, object], where: str = "data") -> Reading:
        """The values in `fields`. Raises UnknownField; the other faults are in the Reading."""
        values: list[float] = []
        missing = 0
        for name, low, high in self._bounds:
            value = fields.get(name)
            # NaN fails the comparison; a bool is not a measurement, though Python counts it as an int.
            if (type(value) is float or type(value) is int) and low <= value <= high:
                values.append(value)
            else:
                values.append(0.0)
                missing += 1
        if missing or len(fields) != len(values) + (TIMESTAMP in fields):
            self._refuse_unknown(fields, where)
        return self._with_faults(fields, values, where) if missing else Reading(values)

    def array_faults(self, row: Sequence[float], where: str) -> list[Fault]:
        """The faults of a row that comes as numbers in the order of the features."""
        fields = {feature.name: float(value) for feature, value in zip(self.features, row, strict=True)}
        reading = self.read(fields, where)
        return [*reading.faults, *(fault for _, fault in reading.gaps)]

    def _refuse_unknown(self, fields: Mapping[str, object], where: str) -> None:
        unknown = [name for name in fields if name not in self._known]
        if unknown:
            raise UnknownField(where, unknown, self._known)

    def _with_faults(self, fields: Mapping[str, object], values: list[float], where: str) -> Reading:
        gaps: list[tuple[int, Fault]] = []
        faults: list[Fault] = []
        for index, feature in enumerate(self.features):
            value = fields.get(feature.name)
            number = type(value) is float or type(value) is int
            if number and feature.valid_min <= value <= feature.valid_max:
                continue
            accepted = f"a number from {feature.valid_min:g} to {feature.valid_max:g} {feature.unit}".rstrip()
            fault = Fault(f"{where}.{feature.name}", "nothing" if value is None else quoted(value), accepted)
            absent = value is None or value != value  # NaN is a missing value
            policy = feature.when_missing if absent else feature.when_out_of_range
            if (absent or number) and policy == "hold_last":
                gaps.append((index, fault))
            else:
                faults.append(fault)
        return Reading(values, gaps, faults)
