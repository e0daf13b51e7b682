"""The simulated plant is seeded and follows its own physics."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.glass_plant import metrics
from examples.glass_plant.calibration import fit_platt, fit_smoothed, fit_temperature, sigmoid, softmax, unsmoothed
from examples.glass_plant.glass import SIDE, Campaign, colour, render_grey
from examples.glass_plant.line import (
    DEFECT_TYPES,
    LineSettings,
    defect_risks,
    hold_last,
    ribbon_delay,
    ribbon_look_back,
    simulate_line,
)
from examples.glass_plant.pixels import load_pixels, shrink
from examples.glass_plant.simulate import write_images, write_rows
from examples.glass_plant.windows import WINDOW_ROWS, cut_windows, shorten, shorten_some
from inference.model import ImageInput
from inference.pipeline.image import load_pixels as server_pixels
from inference.settings import ImagesSettings

ROOT = Path(__file__).parents[2]
LSTM = ROOT / "models" / "lstm_defect_predictor" / "1"
VIT = ROOT / "models" / "vit_defect_detector" / "1"
SETTINGS = LineSettings()
CALM = {name: np.zeros((1, 120)) for name in ("moisture", "wear", "roller")}


@pytest.fixture(scope="module")
def line():
    return simulate_line(seed=5, runs=12, rows=1200)


@pytest.fixture(scope="module")
def pictures():
    campaign = Campaign.draw(3)
    return {kind: render_grey(campaign, kind, np.random.default_rng(8)) for kind in DEFECT_TYPES}


def risks_at(temperature=1550.0, belt=150.0, pressure=15.5):
    """Risks [120, 4] of a line whose signals are constant or given as 120 values."""
    state = [np.broadcast_to(np.asarray(value, float), (1, 120)) for value in (temperature, belt, pressure)]
    return defect_risks(*state, CALM, SETTINGS)[0]


# the line


def test_same_seed_same_rows(line):
    again = simulate_line(seed=5, runs=12, rows=1200)
    np.testing.assert_array_equal(line.sensors, again.sensors)
    np.testing.assert_array_equal(line.defect_type, again.defect_type)
    assert not np.array_equal(line.defect_type, simulate_line(6, 12, 1200).defect_type)


def test_normal_operation_is_the_middle(line):
    middle = np.nanmedian(line.sensors, axis=(0, 1))
    assert (np.abs(middle - [1550.0, 150.0, 15.5]) < [3.0, 3.0, 0.5]).all()


def test_about_one_row_in_ten_is_defective_and_every_type_occurs(line):
    assert 0.07 < line.defect.mean() < 0.20
    assert set(np.unique(line.defect_type)) == set(range(len(DEFECT_TYPES)))


def test_true_probability_is_calibrated(line):
    every = np.ones(line.defect.size)
    error = metrics.calibration_error(line.defect_probability.ravel(), line.defect.ravel())(every)
    assert error < 0.015


def test_dropouts_are_rare_and_come_in_bursts(line):
    lost = np.isnan(line.sensors)
    assert 0.01 < lost.mean() < 0.03
    assert (lost[:, 1:] & lost[:, :-1]).sum() / lost[:, :-1].sum() > 0.5


def test_hold_last_repeats_the_last_reading_and_starts_in_the_middle():
    rows = np.array([[np.nan, 150, 15], [1551, np.nan, 15], [np.nan, np.nan, 16]], np.float32)
    expected = [[1550, 150, 15], [1551, 150, 15], [1551, 150, 16]]
    np.testing.assert_array_equal(hold_last(rows), np.array(expected, np.float32))


@pytest.mark.parametrize(("belt", "rows"), [(150.0, 20.0), (125.0, 24.0), (175.0, 120 / 7)])
def test_delay_follows_the_belt(belt, rows):
    delay = ribbon_delay(np.full((1, 120), belt), SETTINGS.furnace_to_inspection_m)
    np.testing.assert_allclose(delay[0, 40:], rows, atol=1e-6)


def test_look_back_interpolates():
    ramp = np.arange(10.0)[None]
    np.testing.assert_allclose(ribbon_look_back(ramp, np.full((1, 10), 2.5))[0, 5:], ramp[0, 5:] - 2.5)


def test_a_cold_spell_makes_bubbles_twenty_rows_later():
    temperature = np.full(120, 1550.0)
    temperature[50:55] = 1530.0
    bubble = risks_at(temperature=temperature)[:, 0]
    assert bubble[45:66].max() == pytest.approx(bubble[45])
    assert bubble[72:76].max() > 20 * bubble[45]


def test_each_defect_has_its_cause():
    calm = risks_at()[-1]
    assert risks_at(temperature=1535.0)[-1, 0] > 5 * calm[0]
    assert risks_at(belt=170.0)[-1, 1] > 5 * calm[1]
    assert risks_at(temperature=1565.0)[-1, 3] > 5 * calm[3]
    assert risks_at(temperature=1565.0, pressure=18.0)[-1, 3] > 2 * risks_at(temperature=1565.0)[-1, 3]
    assert risks_at(temperature=1565.0, belt=162.0)[-1, 1] == pytest.approx(calm[1])


# windows


def test_windows_end_at_their_label():
    windows = cut_windows(seed=2, runs=2, stride=7, run_rows=200)
    line = simulate_line(2, 2, 200)
    held = hold_last(line.sensors)
    assert windows.rows.shape == (2 * 25, WINDOW_ROWS, 3)
    np.testing.assert_array_equal(windows.rows[26, -1], held[1, 31 + 7])
    np.testing.assert_array_equal(windows.probability[:25], line.defect_probability[0, 31::7])
    assert windows.run.tolist() == [0] * 25 + [1] * 25


def test_short_windows_repeat_their_oldest_row():
    rows = np.arange(WINDOW_ROWS * 3, dtype=np.float32).reshape(1, WINDOW_ROWS, 3)
    short = shorten(rows, 4)[0]
    np.testing.assert_array_equal(short[-4:], rows[0, -4:])
    np.testing.assert_array_equal(short[:-4], np.broadcast_to(rows[0, -4], (28, 3)))
    np.testing.assert_array_equal(shorten(rows, WINDOW_ROWS), rows)
    some = shorten_some(np.repeat(rows, 400, axis=0), 0.5, np.random.default_rng(0))
    assert 0.35 < np.mean((some != rows).any(axis=(1, 2))) < 0.65


# pictures


def test_same_seed_same_picture(pictures):
    again = render_grey(Campaign.draw(3), "crack", np.random.default_rng(8))
    np.testing.assert_array_equal(pictures["crack"], again)
    assert again.shape == (SIDE, SIDE)
    assert again.dtype == np.uint8


@pytest.mark.parametrize("kind", DEFECT_TYPES[1:])
def test_a_defect_changes_a_small_part_of_the_picture(pictures, kind):
    changed = np.abs(pictures[kind].astype(int) - pictures["none"]) > 3
    assert 20 < changed.sum() < 0.1 * changed.size


def test_pixels_of_jpeg_and_png_agree(pictures):
    picture = colour(pictures["bubble"], Campaign.draw(3))
    small = {}
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        picture.save(stream, kind, quality=90, compress_level=1)
        small[kind] = load_pixels(stream.getvalue(), 128, 96)
    assert small["PNG"].shape == (96, 128, 3)
    assert small["PNG"].dtype == np.uint8
    np.testing.assert_array_equal(small["PNG"], shrink(picture, 128, 96))
    assert np.abs(small["JPEG"].astype(int) - small["PNG"]).mean() < 2.0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_server_reads_the_same_pixels(pictures, kind):
    stream = io.BytesIO()
    colour(pictures["scratch"], Campaign.draw(3)).save(stream, kind, quality=90, compress_level=1)
    served = server_pixels(stream.getvalue(), ImageInput(input="pixels", width=128, height=128), ImagesSettings())
    np.testing.assert_array_equal(served, load_pixels(stream.getvalue(), 128, 128))


def test_grey_and_transparent_pictures_become_rgb():
    stream = io.BytesIO()
    Image.new("LA", (40, 30), (90, 10)).save(stream, "PNG")
    assert load_pixels(stream.getvalue(), 20, 15).shape == (15, 20, 3)


# the command


def test_rows_command_writes_gaps_as_empty_cells(tmp_path):
    write_rows(tmp_path / "rows.csv", 400, seed=1)
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    assert any(row["furnace_temperature"] == "" or row["pressure"] == "" for row in rows)
    assert all((row["defect"] == "1") == (row["defect_type"] != "none") for row in rows)


def test_images_command_writes_megapixel_jpegs(tmp_path):
    write_images(tmp_path, 2, seed=1)
    labels = (tmp_path / "labels.csv").read_text().splitlines()
    assert labels[0] == "file,label"
    with Image.open(tmp_path / labels[1].split(",")[0]) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))


def test_simulation_needs_numpy_and_pillow_only():
    code = (
        "import sys, examples.glass_plant.simulate; "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'onnx', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# figures of merit


def test_metrics_agree_with_counting():
    rng = np.random.default_rng(0)
    score, positive = np.round(rng.random(300), 1), rng.random(300) < 0.3
    wins = score[positive][:, None] - score[~positive][None]
    every = np.ones(300)
    assert metrics.roc_auc(score, positive)(every) == pytest.approx(np.mean((wins > 0) + 0.5 * (wins == 0)))
    assert metrics.average_precision(positive.astype(float), positive)(every) == pytest.approx(1.0)
    assert metrics.calibration_error(np.full(300, 0.3), positive)(every) < 0.2
    share = metrics.wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-3)


def test_bootstrap_keeps_groups_together():
    group = np.repeat([0, 1], 50)
    figure = metrics.bootstrap(metrics.mean_of(group == 1), group)
    assert (figure.low, figure.value, figure.high) == (0.0, 0.5, 1.0)


def test_calibration_finds_what_was_bent():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 40_000)
    positive = rng.random(40_000) < sigmoid(0.5 * logit - 0.3)
    assert fit_platt(logit, positive) == pytest.approx((0.5, -0.3), abs=0.05)
    scores = rng.gumbel(size=(20_000, 5)) + (logits := rng.normal(0, 1, (20_000, 5)))
    assert fit_temperature(3.0 * logits, scores.argmax(1)) == pytest.approx(3.0, rel=0.1)


def test_smoothing_of_labels_is_found_and_turned_back():
    rng = np.random.default_rng(1)
    truth = softmax(3.0 * rng.normal(0, 1, (4_000, 5)))
    label = (truth.cumsum(1) > rng.random((4_000, 1))).argmax(1)
    learned = 0.9 * truth + 0.1 / 5
    temperature, smoothing = fit_smoothed(np.log(learned), label)
    assert temperature == pytest.approx(1.0, abs=0.1)
    assert smoothing == pytest.approx(0.1, abs=0.03)
    np.testing.assert_allclose(unsmoothed(learned, 0.1), truth, atol=5e-3)
    bent = unsmoothed(learned, 0.15)
    assert bent.min() > 0
    np.testing.assert_array_equal(bent.argsort(1), truth.argsort(1))
