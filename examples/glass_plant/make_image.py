"""The image model from simulation to package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from examples.glass_plant import metrics
from examples.glass_plant.calibration import fit_smoothed, fit_temperature, softmax
from examples.glass_plant.image_card import ImageResults, image_card
from examples.glass_plant.image_graph import transformer_graph
from examples.glass_plant.image_model import (
    MEAN,
    STD,
    VisionTransformer,
    logits,
    parameter_count,
    small_cnn,
    stem_of,
    train_classifier,
)
from examples.glass_plant.image_report import confusion, score_classes, score_images
from examples.glass_plant.image_sets import SIDE, ImageSet, SetPlan, make_images
from examples.glass_plant.line import DEFECT_TYPES
from examples.glass_plant.package import BATCH_ROWS_MAX, toml_list, write_package
from examples.glass_plant.session import GraphSession, measure_cost

NAME = "vit_defect_detector"
EXAMPLES = 8
DESCRIPTION = (
    "Small vision transformer that names none, bubble, crack, scratch or inclusion; "
    "trained on simulated data, not on a plant's pictures."
)


@dataclass(frozen=True)
class ImageScale:
    """The three splits and how long is trained."""

    train: SetPlan
    calibration: SetPlan
    held: SetPlan
    epochs: int


FULL = ImageScale(SetPlan(100_000, 100, 100, 0.75), SetPlan(500_000, 12, 200, 1.0), SetPlan(900_000, 20, 300, 1.0), 10)
QUICK = ImageScale(SetPlan(100_000, 4, 40, 0.5), SetPlan(500_000, 2, 25, 1.0), SetPlan(900_000, 4, 25, 1.0), 1)


def make_image(out: Path, scale: ImageScale, seed: int, workers: int, cache: Path | None) -> None:
    """Simulate, train, calibrate, judge on held-out campaigns and write the package `out`/vit_defect_detector/1."""
    plans = (scale.train, scale.calibration, scale.held)
    train, calibration, held = (make_images(plan, workers, cache) for plan in plans)
    print(f"  {len(train.label)} training, {len(calibration.label)} calibration, {len(held.label)} held-out pictures")
    torch.manual_seed(seed)
    cnn, model = small_cnn(), VisionTransformer()
    train_classifier(cnn, "small cnn", train, scale.epochs, 3e-3, seed)
    model.stem.load_state_dict(stem_of(cnn).state_dict())
    train_classifier(model, "vit", train, scale.epochs, 1e-3, seed)
    cnn_temperature = fit_temperature(logits(cnn, calibration.pixels), calibration.label)
    cnn_held = softmax(logits(cnn, held.pixels) / cnn_temperature)
    temperature, smoothing = fit_smoothed(logits(model, calibration.pixels), calibration.label)
    graph = transformer_graph(model, temperature, smoothing)
    before = GraphSession(transformer_graph(model, 1.0, None).SerializeToString()).run(held.pixels)
    after = GraphSession(graph.SerializeToString()).run(held.pixels)
    results = ImageResults(
        scale=(len(train.label), len(calibration.label), len(held.label)),
        campaigns=(scale.train.campaigns, scale.calibration.campaigns, scale.held.campaigns),
        jpeg_share=scale.train.jpeg_share,
        model=score_images("**vision transformer (this model)**", after, held),
        before=score_images("before calibration", before, held),
        cnn=score_images("small CNN", cnn_held, held),
        majority=metrics.wilson(int(np.bincount(held.label).max()), len(held.label)),
        classes=score_classes(after, held),
        confusion=confusion(after, held),
        temperature=temperature,
        smoothing=smoothing,
        cost=measure_cost(graph.SerializeToString(), held.pixels[:1], parameter_count(model)),
        cnn_parameters=parameter_count(cnn),
        cnn_temperature=cnn_temperature,
        epochs=scale.epochs,
    )
    answers = {"before calibration": before, "calibrated": after}
    curves = {name: _reliability(answer, held) for name, answer in answers.items()}
    spread = np.arange(EXAMPLES) * (scale.held.each + 1) % len(held.label)  # another campaign and class each
    example = {"pixels": held.pixels[spread]}
    write_package(out / NAME / "1", graph, image_manifest(temperature, smoothing), image_card(results), example, curves)
    accuracies = f"accuracy {results.model.accuracy}, small CNN {results.cnn.accuracy}"
    print(f"  {NAME}: {accuracies}, {results.cost.row_s * 1e3:.2f} ms a row")


def image_manifest(temperature: float, smoothing: float) -> str:
    """The text of model.toml."""
    return f"""format = 1

[model]
task = "image"
title = "Defect type from a picture of glass"
description = "{DESCRIPTION}"

[image]
input = "pixels"
width = {SIDE}
height = {SIDE}
channels = "RGB"
layout = "HWC"
resample = "box"
normalisation_mean = {toml_list(MEAN)}
normalisation_std = {toml_list(STD)}

[output]
name = "probabilities"
kind = "classes"
labels = {toml_list(DEFECT_TYPES)}

[calibration]
method = "temperature"
temperature = {temperature:.6f}
smoothing = {smoothing:.6f}

[limits]
batch_rows_max = {BATCH_ROWS_MAX}
"""


def _reliability(probability: np.ndarray, held: ImageSet) -> list[tuple[float, metrics.Figure]]:
    return metrics.reliability(probability.max(1), probability.argmax(1) == held.label)
