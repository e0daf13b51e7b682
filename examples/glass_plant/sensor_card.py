"""The model card of the sensor model, written from measured figures only."""

from __future__ import annotations

from dataclasses import dataclass

from examples.glass_plant.line import TEMPERATURE_C, LineSettings
from examples.glass_plant.metrics import Figure
from examples.glass_plant.package import markdown_table
from examples.glass_plant.sensor_report import SHORT_SHOWN, Scores, ShortHistory
from examples.glass_plant.session import Cost

ROW_US_MAX = 50.0
ERROR_MAX = 0.02


@dataclass(frozen=True)
class SensorResults:
    """Everything that the card states; counts are (training, calibration, held-out)."""

    scale: tuple[int, int, int]
    runs: tuple[int, int, int]
    defect_share: Figure
    model: Scores
    before: Scores
    others: list[Scores]
    bound: Scores
    by_class: list[tuple[str, int, Figure]]
    advantage: Figure  # AUC of the model less that of gradient boosting, paired
    short: ShortHistory
    threshold: float
    platt: tuple[float, float]
    cost: Cost


def sensor_card(results: SensorResults) -> str:
    """The card in markdown."""
    return "\n".join(
        [
            _opening(results),
            _comparison(results),
            _calibration(results),
            _short(results),
            _cost(results),
            _targets(results),
            _closing(),
        ]
    )


def _opening(results: SensorResults) -> str:
    distance_m = LineSettings().furnace_to_inspection_m
    train, calibration, held = results.scale
    runs = results.runs
    return f"""# lstm_defect_predictor, version 1

Probability that the glass now at the inspection is defective, from the last 32 rows (16 minutes) of furnace
temperature, belt speed and pressure. **Trained and judged on simulated data only**: the line is
`examples/glass_plant`, whose README lists its assumptions. No figure below says how the model does at a real plant;
retrain it on your own rows before you act on it.

- Input `rows` float32 [batch, 32, 3]: furnace_temperature degC, belt_speed m/h, pressure Pa; raw units, oldest row
  first, missing readings held at their last value.
- Output `defect_probability` float32 [batch, 1]: calibrated. Normalisation and calibration are nodes of the graph.
- One LSTM layer of 40 units and a linear head, {results.cost.parameters} parameters.

## Data
Simulated campaigns of 1500 rows (12.5 hours), split by campaign with separate seeds: {runs[0]} to train
({train} windows), {runs[1]} to calibrate ({calibration}), {runs[2]} held out ({held}).
A share of {results.defect_share} of the held-out windows ends in a defect.

The glass that the camera sees left the furnace {distance_m:.0f} m of ribbon ago (about 20 rows, fewer when the belt
runs faster), so the rows that matter lie inside the window and not at its end. A quarter of the training windows
were shortened and filled by repeating their first row, as a server does when a line has just started to report. The
graph marks a row that repeats the one before it exactly, so the LSTM can tell a short history from a line that stands
still.
"""


def _comparison(results: SensorResults) -> str:
    header = ["predictor", "ROC AUC", "average precision", "log loss", "accuracy", "calibration error"]
    rows = [
        [s.name, s.auc, s.precision, s.log_loss, s.accuracy, s.calibration_error]
        for s in [*results.others, results.model, results.bound]
    ]
    classes = [[name, cases, share] for name, cases, share in results.by_class]
    return f"""## Held-out figures
With 95 % intervals from a bootstrap that draws whole campaigns. Accuracy is at the threshold {results.threshold}.

{markdown_table(header, rows)}
The bound is the simulator's own defect probability: it knows the noise-free temperature, speed and pressure of the
whole past, the exact delay, batch moisture, refractory wear and the state of the rollers. What is left is chance: no
predictor can beat it on average, and one that sees only the three noisy sensors cannot reach it. Every baseline was
trained on the same whole windows; gradient boosting also gets means, spreads, extremes and four-row changes. On the
same held-out campaigns the LSTM's AUC lies above that of gradient boosting by {results.advantage}.

The threshold {results.threshold} has the highest F1 score on the calibration split. It weighs a missed defect and a
false alarm alike; where one costs you more, choose your own: the probability is calibrated.

{markdown_table(["outcome", "windows", "decided rightly"], classes)}"""


def _calibration(results: SensorResults) -> str:
    slope, intercept = results.platt
    gained = results.model.calibration_error.value < results.before.calibration_error.value
    verdict = (
        ""
        if gained
        else "\nTraining had calibrated the model already: the scaling is close to none and gains nothing here."
    )
    return f"""## Calibration
Platt scaling, slope {slope:.4f} and intercept {intercept:.4f}, fitted on the calibration campaigns (whole windows).
Expected calibration error over 15 bins of equal count: {results.before.calibration_error} before,
{results.model.calibration_error} after. (Resampling widens the error, so an interval may lie above its value.){verdict}

![reliability](reliability.png)
"""


def _short(results: SensorResults) -> str:
    short = results.short
    confidence = short.confidence()
    rows = [
        [
            known,
            short.accuracy[known - 1],
            short.auc[known - 1],
            short.calibration_error[known - 1],
            f"{confidence[known - 1]:.4f}",
        ]
        for known in SHORT_SHOWN
    ]
    return f"""## Short histories
With fewer than 32 real rows the window is filled by repeating the oldest one. Measured on every second held-out
window; the last column is `short_history_confidence` in model.toml, set to the accuracy relative to a whole window,
and lowered where more rows did worse.

{markdown_table(["real rows", "accuracy", "ROC AUC", "calibration error", "relative confidence"], rows)}
With one row the model knows little more than the overall defect rate: the rows that matter came 20 rows earlier.
Calibration was fitted on whole windows only, hence the column for its error.
"""


def _cost(results: SensorResults) -> str:
    cost = results.cost
    low, high = cost.row_s_range
    return f"""## Cost
{cost.row_s * 1e6:.0f} us a row at batch 1 in ONNX Runtime with one thread:
the median of nine rounds, which ranged from
{low * 1e6:.0f} to {high * 1e6:.0f} us on a shared machine
({cost.processor}). {cost.load_s * 1e3:.0f} ms to load, {cost.file_bytes / 1024:.0f} KiB.
"""


def _targets(results: SensorResults) -> str:
    linear = results.others[1]
    boosted = results.others[2]
    model = results.model
    rows = [
        [
            "AUC above logistic regression on the window",
            f"{model.auc.value:.4f} against {linear.auc.value:.4f}",
            _met(model.auc.low > linear.auc.high),
        ],
        [
            "AUC at least that of gradient boosting",
            f"{model.auc.value:.4f} against {boosted.auc.value:.4f}",
            _met(model.auc.value >= boosted.auc.value),
        ],
        [
            "AUC below the bound",
            f"{model.auc.value:.4f} against {results.bound.auc.value:.4f}",
            _met(model.auc.value < results.bound.auc.value),
        ],
        [
            f"calibration error at most {ERROR_MAX}",
            f"{model.calibration_error.value:.4f}",
            _met(model.calibration_error.value <= ERROR_MAX),
        ],
        [
            f"at most {ROW_US_MAX:.0f} us a row",
            f"{results.cost.row_s * 1e6:.0f} us",
            _met(results.cost.row_s * 1e6 <= ROW_US_MAX),
        ],
        ["at least 20,000 held-out windows", results.scale[2], _met(results.scale[2] >= 20_000)],
    ]
    return "## Targets\n" + markdown_table(["target", "measured", ""], rows)


def _closing() -> str:
    return f"""## Use and limits
For demonstrations, load tests and as a pattern for your own model. Trained around {TEMPERATURE_C:.0f} degC, 150 m/h
and 15.5 Pa; far from there, or at another row interval than 30 s, its answers mean nothing. It does not name the kind
of defect. Make it again with `make models` (same seed, same data; the weights may differ in their last digits on
another processor).
"""


def _met(condition: bool) -> str:
    return "met" if condition else "**missed**"
