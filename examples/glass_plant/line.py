"""The simulated float-glass line: three sensors, the state behind them, and the defects that follow.

Nothing here is measured at a plant. `README.md` lists every assumption; the numbers below are those assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ROW_INTERVAL_S = 30.0
SENSORS = ("furnace_temperature", "belt_speed", "pressure")  # degC, m/h, Pa over the hall's air
DEFECT_TYPES = ("none", "bubble", "crack", "scratch", "inclusion")
TEMPERATURE_C, BELT_M_H, PRESSURE_PA = 1550.0, 150.0, 15.5  # the middle of normal operation
BURN_IN_ROWS = 160  # four firing reversals: the start values are forgotten
LOG_RISK_MAX = 1.0  # of one cause: 93 % of the glass
REVERSAL_ROWS = 40  # regenerator fires change side every 20 minutes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LineSettings:
    """What the simulated line is made of; lengths in metres of ribbon, rates per row of 30 s."""

    furnace_to_inspection_m: float = 25.0
    lehr_to_inspection_m: float = 8.0
    temperature_noise_c: float = 1.5
    belt_noise_m_h: float = 0.35
    pressure_noise_pa: float = 0.35
    dropout_rate: float = 0.006
    dropout_rows_mean: float = 3.0
    cold_batch_rate: float = 1 / 90
    overheat_rate: float = 1 / 110
    door_rate: float = 1 / 150


@dataclass(frozen=True)
class LineRuns:
    """Simulated runs, one per row of every array; shapes are [runs, rows] unless said otherwise.

    `sensors` [runs, rows, 3] is what the plant stores: raw units in the order of `SENSORS`, NaN where a reading
    dropped out. `defect_type` indexes `DEFECT_TYPES`. `defect_probability` is the latent truth: the chance of a
    defect at that row given the whole noise-free state and every hidden disturbance.
    """

    sensors: NDArray[np.float32]
    defect_type: NDArray[np.int8]
    defect_probability: Floats
    true_state: Floats = field(repr=False)

    @property
    def defect(self) -> NDArray[np.bool_]:
        """True where the inspection found a defect."""
        return self.defect_type > 0


def simulate_line(seed: int, runs: int, rows: int, settings: LineSettings | None = None) -> LineRuns:
    """Simulate `runs` independent campaigns of `rows` rows; the same arguments give the same bytes."""
    settings = settings or LineSettings()
    rng = np.random.default_rng(seed)
    steps = rows + BURN_IN_ROWS
    belt = _belt_speed(rng, runs, steps)
    temperature = _furnace_temperature(rng, runs, steps, settings)
    pressure = _pressure(rng, runs, steps, settings)
    risks = defect_risks(temperature, belt, pressure, _hidden(rng, runs, steps), settings)
    total = risks.sum(axis=2)
    probability = 1.0 - np.exp(-total)
    kind = 1 + (rng.random((runs, steps, 1)) > np.cumsum(risks, axis=2)[..., :3] / total[..., None]).sum(axis=2)
    kind = np.where(rng.random((runs, steps)) < probability, kind, 0).astype(np.int8)
    state = np.stack([temperature, belt, pressure], axis=2)
    sensors = _measure(rng, state, settings)
    kept = slice(BURN_IN_ROWS, None)
    return LineRuns(sensors[:, kept], kind[:, kept], probability[:, kept], state[:, kept])


def defect_risks(
    temperature: Floats, belt: Floats, pressure: Floats, hidden: dict[str, Floats], settings: LineSettings
) -> Floats:
    """Risk per row of each defect type, [runs, rows, 4] in the order of `DEFECT_TYPES[1:]`.

    The glass that the camera sees at a row left the furnace `furnace_to_inspection_m` of ribbon ago and the lehr's
    hot end `lehr_to_inspection_m` ago, so both delays in rows follow the belt speed.
    """
    furnace = ribbon_delay(belt, settings.furnace_to_inspection_m)
    lehr = ribbon_delay(belt, settings.lehr_to_inspection_m)
    cold = _mean_of_last(np.maximum(1545.0 - temperature, 0.0), 5) / 4.0
    cooling = np.maximum(_rise(temperature, -4) - 5.0, 0.0) / 3.0
    starved = np.maximum(13.6 - pressure, 0.0)
    bubble = -5.6 + 1.3 * cold + 1.2 * cooling + 1.2 * starved * cooling + 0.5 * hidden["moisture"]
    hot = _mean_of_last(np.maximum(temperature - 1555.0, 0.0), 5) / 3.5
    stirred = np.maximum(pressure - 16.3, 0.0)
    inclusion = -5.6 + 1.2 * hot + 1.1 * hot * stirred + 0.5 * hidden["wear"]
    pull = BELT_M_H + 0.8 * (ribbon_look_back(temperature, furnace - lehr) - TEMPERATURE_C)
    mismatch = np.maximum(np.abs(belt - pull) - 10.0, 0.0) / 3.0
    jerk = np.maximum(np.abs(_rise(belt, 4)) - 2.5, 0.0) / 1.0
    crack = -5.8 + 1.1 * mismatch + 1.0 * jerk
    scratch = np.exp(-5.5 + 0.03 * (belt - BELT_M_H) + 2.5 * hidden["roller"])
    bubble, crack, inclusion = (np.exp(np.minimum(log_risk, LOG_RISK_MAX)) for log_risk in (bubble, crack, inclusion))
    seen = (ribbon_look_back(bubble, furnace), ribbon_look_back(crack, lehr), scratch)
    return np.stack([*seen, ribbon_look_back(inclusion, furnace)], axis=2)


def ribbon_delay(belt: Floats, distance_m: float) -> Floats:
    """Rows that the ribbon needed for the last `distance_m` up to each row, fractional, [runs, rows]."""
    travelled = np.cumsum(belt * (ROW_INTERVAL_S / 3600.0), axis=1)
    index = np.arange(belt.shape[1], dtype=np.float64)
    passed = [np.interp(run - distance_m, run, index, left=0.0) for run in travelled]
    return index - np.stack(passed)


def ribbon_look_back(values: Floats, delay_rows: Floats) -> Floats:
    """`values` [runs, rows] as they were `delay_rows` earlier, interpolated between rows."""
    index = np.arange(values.shape[1], dtype=np.float64)
    return np.stack([np.interp(index - delay, index, run) for run, delay in zip(values, delay_rows, strict=True)])


def hold_last(sensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill NaN along rows ([..., rows, 3]) with the last known reading, as the plant's data collection does.

    A run that starts with a dropout takes the middle of normal operation until its first reading.
    """
    known = ~np.isnan(sensors)
    index = np.where(known, np.arange(sensors.shape[-2])[:, None], -1)
    index = np.maximum.accumulate(index, axis=-2)
    held = np.take_along_axis(sensors, np.maximum(index, 0), axis=-2)
    middle = np.array([TEMPERATURE_C, BELT_M_H, PRESSURE_PA], np.float32)
    return np.where(index < 0, middle, held)


def _wander(rng: np.random.Generator, runs: int, steps: int, tau_rows: float, deviation: float) -> Floats:
    """A first-order process around zero with the given time constant and standard deviation."""
    keep = np.exp(-1.0 / tau_rows)
    kicks = rng.normal(0.0, deviation * np.sqrt(1.0 - keep**2), (steps, runs))
    state = rng.normal(0.0, deviation, runs)
    out = np.empty((steps, runs))
    for step in range(steps):
        state = keep * state + kicks[step]
        out[step] = state
    return out.T


def _set_points(
    rng: np.random.Generator, runs: int, steps: int, rate: float, middle: float, deviation: float
) -> Floats:
    """Piecewise constant operator targets within 2.2 deviations of the middle."""
    drawn = middle + np.clip(rng.normal(0.0, deviation, (runs, steps)), -2.2 * deviation, 2.2 * deviation)
    changed = rng.random((runs, steps)) < rate
    changed[:, 0] = True
    last = np.maximum.accumulate(np.where(changed, np.arange(steps), 0), axis=1)
    return np.take_along_axis(drawn, last, axis=1)


def _events(
    rng: np.random.Generator, runs: int, steps: int, rate: float, size: tuple[float, float], fade_rows: float
) -> Floats:
    """Sudden disturbances of a random size that fade away exponentially."""
    started = np.where(rng.random((runs, steps)) < rate, rng.uniform(*size, (runs, steps)), 0.0)
    keep = np.exp(-1.0 / fade_rows)
    state = np.zeros(runs)
    out = np.empty((runs, steps))
    for step in range(steps):
        state = keep * state + started[:, step]
        out[:, step] = state
    return out


def _lag(values: Floats, tau_rows: float) -> Floats:
    """First-order response to `values` along rows."""
    gain = 1.0 - np.exp(-1.0 / tau_rows)
    state = values[:, 0].copy()
    out = np.empty_like(values)
    for step in range(values.shape[1]):
        state += gain * (values[:, step] - state)
        out[:, step] = state
    return out


def _furnace_temperature(rng: np.random.Generator, runs: int, steps: int, settings: LineSettings) -> Floats:
    target = _set_points(rng, runs, steps, 1 / 260, TEMPERATURE_C, 6.0)
    phase = 2.0 * np.pi * (np.arange(steps) + rng.integers(0, REVERSAL_ROWS, (runs, 1))) / REVERSAL_ROWS
    cold = _events(rng, runs, steps, settings.cold_batch_rate, (10.0, 30.0), 7.0)
    hot = _events(rng, runs, steps, settings.overheat_rate, (8.0, 22.0), 9.0)
    return _lag(target, 18.0) + _wander(rng, runs, steps, 70.0, 5.0) + 2.0 * np.sin(phase) + _lag(hot - cold, 1.5)


def _belt_speed(rng: np.random.Generator, runs: int, steps: int) -> Floats:
    target = _set_points(rng, runs, steps, 1 / 150, BELT_M_H, 8.0)
    return np.clip(_lag(target, 4.0) + _wander(rng, runs, steps, 12.0, 0.6), 125.0, 175.0)


def _pressure(rng: np.random.Generator, runs: int, steps: int, settings: LineSettings) -> Floats:
    beat = (np.arange(steps) + rng.integers(0, REVERSAL_ROWS, (runs, 1))) % REVERSAL_ROWS
    door = _events(rng, runs, steps, settings.door_rate, (2.0, 5.0), 4.0)
    surge = _events(rng, runs, steps, settings.door_rate, (1.5, 4.0), 5.0)
    return PRESSURE_PA + _wander(rng, runs, steps, 20.0, 0.9) - 1.5 * (beat < 2) - door + surge


def _hidden(rng: np.random.Generator, runs: int, steps: int) -> dict[str, Floats]:
    """Disturbances that no sensor shows: batch moisture, refractory wear, a worn roller (0 or 1)."""
    wear = rng.normal(0.0, 0.8, (runs, 1)) + np.linspace(-0.4, 0.4, steps)
    roller = (_wander(rng, runs, steps, 60.0, 1.0) > 1.5).astype(np.float64)
    return {"moisture": _wander(rng, runs, steps, 300.0, 1.0), "wear": wear, "roller": roller}


def _measure(rng: np.random.Generator, state: Floats, settings: LineSettings) -> NDArray[np.float32]:
    """The readings: noise, a slowly drifting thermocouple, and bursts of lost readings as NaN."""
    runs, steps, _ = state.shape
    noise = np.array([settings.temperature_noise_c, settings.belt_noise_m_h, settings.pressure_noise_pa])
    read = state + rng.normal(0.0, 1.0, state.shape) * noise
    read[..., 0] += _wander(rng, runs, steps, 600.0, 1.2)
    length = rng.geometric(1.0 / settings.dropout_rows_mean, state.shape)
    starts = rng.random(state.shape) < settings.dropout_rate
    until = np.maximum.accumulate(np.where(starts, np.arange(steps)[:, None] + length, 0), axis=1)
    read[np.arange(steps)[:, None] < until] = np.nan
    return read.astype(np.float32)


def _rise(values: Floats, rows: int) -> Floats:
    """Change over the last |rows| rows; negative `rows` gives the fall instead."""
    span = abs(rows)
    change = np.zeros_like(values)
    change[:, span:] = values[:, span:] - values[:, :-span]
    return change if rows > 0 else -change


def _mean_of_last(values: Floats, rows: int) -> Floats:
    """Mean of the row and the `rows` - 1 before it."""
    total = np.cumsum(values, axis=1)
    total[:, rows:] = total[:, rows:] - total[:, :-rows]
    return total / rows
