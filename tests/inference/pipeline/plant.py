"""The sensors of a small line, as the tests of the pipeline know it."""

from __future__ import annotations

from inference.model import Feature, Output, SensorWindow

TEMPERATURE = Feature("furnace_temperature", "degC", 1400.0, 1700.0, when_missing="hold_last")
SPEED = Feature("belt_speed", "m/h", 50.0, 300.0, when_out_of_range="hold_last")
PRESSURE = Feature("pressure", "Pa", -10.0, 50.0)
FEATURES = (TEMPERATURE, SPEED, PRESSURE)
NAMES = tuple(feature.name for feature in FEATURES)

WINDOW = SensorWindow("rows", 4, FEATURES)
OUTPUT = Output("defect_probability", "binary", ("ok", "defect"), 0.3, (0.5, 0.6, 0.8, 1.0))


def row(
    temperature: object = 1550.0, speed: object = 150.0, pressure: object = 15.5, **more: object
) -> dict[str, object]:
    """Named values of one row; `timestamp` and what does not belong there go into `more`."""
    return {"furnace_temperature": temperature, "belt_speed": speed, "pressure": pressure, **more}
