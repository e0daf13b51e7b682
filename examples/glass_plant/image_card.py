"""The model card of the image model, written from measured figures only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.glass_plant.image_report import ClassScores, ImageScores
from examples.glass_plant.line import DEFECT_TYPES
from examples.glass_plant.metrics import Figure
from examples.glass_plant.package import markdown_table
from examples.glass_plant.session import Cost

ROW_MS_MAX = 5.0
ERROR_MAX = 0.02
CNN_RANGE = (0.85, 0.97)


@dataclass(frozen=True)
class ImageResults:
    """Everything that the card states; counts are (training, calibration, held-out)."""

    scale: tuple[int, int, int]
    campaigns: tuple[int, int, int]
    jpeg_share: float
    model: ImageScores
    before: ImageScores
    cnn: ImageScores
    majority: Figure
    classes: list[ClassScores]
    confusion: NDArray[np.int64]
    temperature: float
    smoothing: float
    cost: Cost
    cnn_parameters: int
    cnn_temperature: float
    epochs: int


def image_card(results: ImageResults) -> str:
    """The card in markdown."""
    parts = (_opening, _comparison, _by_class, _calibration, _cost, _targets, _closing)
    return "\n".join(part(results) for part in parts)


def _opening(results: ImageResults) -> str:
    train, calibration, held = results.scale
    campaigns = results.campaigns
    return f"""# vit_defect_detector, version 1

Names the defect in a picture of glass: none, bubble, crack, scratch or inclusion. **Trained and judged on simulated
pictures only**: the camera, the glass and the defects are drawn by `examples/glass_plant`, whose README lists its
assumptions. No figure below says how the model does at a real plant; retrain it on your own pictures before you act
on it.

- Input `pixels` uint8 [batch, 128, 128, 3]: RGB, row by row, 0-255. Pictures of any size are shrunk with the mean of
  each box of pixels; a JPEG is decoded at its smallest DCT scale that is at least twice the target.
- Output `probabilities` float32 [batch, 5]: calibrated, in the order {", ".join(DEFECT_TYPES)}. Normalisation and
  calibration are nodes of the graph.
- Five convolutions make 8 x 8 tokens of width 192; four transformer blocks with four heads; mean over the tokens;
  linear head. {results.cost.parameters} parameters. Trained with bfloat16 matrix products where the processor has them;
  the graph computes in float32.

## Data
Simulated pictures of 1024 x 1024 pixels, the five classes equally often, split by campaign (light, noise, optics and
glass tint of one camera): {campaigns[0]} campaigns to train ({train} pictures, {results.jpeg_share:.0%} of them through
JPEG of quality 90), {campaigns[1]} to calibrate ({calibration}) and {campaigns[2]} held out ({held}), the last two
wholly through JPEG and the server's decoder. Small and faint defects are lost in shrinking to 128 x 128, as in life.
"""


def _comparison(results: ImageResults) -> str:
    header = [
        "classifier",
        "accuracy",
        "ROC AUC",
        "average precision",
        "defect or none, ROC AUC",
        "log loss",
        "calibration error",
    ]
    rows = [
        [s.name, s.accuracy, s.auc, s.precision, s.detection_auc, s.log_loss, s.calibration_error]
        for s in (results.cnn, results.model)
    ]
    return f"""## Held-out figures
With 95 % intervals from a bootstrap that draws whole campaigns. ROC AUC and average precision are one class against the
rest, their mean over the classes. Naming every picture by one class is right in {results.majority}.

{markdown_table(header, rows)}
The small CNN ({results.cnn_parameters} parameters, seven convolutions, calibrated by a temperature of
{results.cnn_temperature:.3f} alone) saw the same pictures at the same size for as many epochs ({results.epochs}).
The transformer starts from its five convolutions, which have seen them twice as often. There is no bound to state: what
a shrunk picture still shows has no closed form.
"""


def _by_class(results: ImageResults) -> str:
    classes = [[c.name, c.cases, c.accuracy, c.auc, c.precision] for c in results.classes]
    table = [[name, *counts] for name, counts in zip(DEFECT_TYPES, results.confusion.tolist(), strict=True)]
    return f"""### By class
Accuracy with Wilson intervals, ranking figures against the rest.

{markdown_table(["class", "pictures", "accuracy", "ROC AUC", "average precision"], classes)}
Rows are the truth, columns the answer:

{markdown_table(["", *DEFECT_TYPES], table)}"""


def _calibration(results: ImageResults) -> str:
    return f"""## Calibration
Temperature {results.temperature:.4f}, then label smoothing of {results.smoothing:.4f} turned back, both fitted on the
calibration campaigns. The model learned from smoothed labels, which keeps even a sure answer well below 1.
Expected calibration error of the named class over 15 bins of equal count: {results.before.calibration_error} before,
{results.model.calibration_error} after. (Resampling widens the error, so an interval may lie above its value.)

![reliability](reliability.png)
"""


def _cost(results: ImageResults) -> str:
    cost = results.cost
    low, high = cost.row_s_range
    return f"""## Cost
{cost.row_s * 1e3:.2f} ms a row at batch 1 in ONNX Runtime with one thread:
the median of nine rounds, which ranged from
{low * 1e3:.2f} to {high * 1e3:.2f} ms on a shared machine
({cost.processor}). {cost.load_s * 1e3:.0f} ms to load, {cost.file_bytes / 2**20:.1f} MiB.
"""


def _targets(results: ImageResults) -> str:
    model, cnn = results.model, results.cnn
    rows = [
        [
            "accuracy at least that of the small CNN",
            f"{model.accuracy.value:.4f} against {cnn.accuracy.value:.4f}",
            model.accuracy.value >= cnn.accuracy.value,
        ],
        [
            "the small CNN lands at 85-97 % accuracy",
            f"{cnn.accuracy.value:.4f}",
            CNN_RANGE[0] <= cnn.accuracy.value <= CNN_RANGE[1],
        ],
        [
            f"calibration error at most {ERROR_MAX}",
            f"{model.calibration_error.value:.4f}",
            model.calibration_error.value <= ERROR_MAX,
        ],
        [
            f"at most {ROW_MS_MAX:.0f} ms a row",
            f"{results.cost.row_s * 1e3:.2f} ms",
            results.cost.row_s * 1e3 <= ROW_MS_MAX,
        ],
        ["at most 2 million parameters", results.cost.parameters, results.cost.parameters <= 2_000_000],
        ["at least 6,000 held-out pictures", results.scale[2], results.scale[2] >= 6000],
    ]
    shown = [[target, measured, "met" if met else "**missed**"] for target, measured, met in rows]
    return "## Targets\n" + markdown_table(["target", "measured", ""], shown)


def _closing(_results: ImageResults) -> str:
    return """## Use and limits
For demonstrations, load tests and as a pattern for your own model. It names one class per picture and does not say
where the defect is. The classes were equally frequent in training; at a plant most pictures show none, so its
probabilities of a defect are too high there until it is calibrated anew. Make it again with `make models` (same seed,
same data; the weights may differ in their last digits on another processor).
"""
