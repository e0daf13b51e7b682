"""model.toml: what it declares, and every mistake in it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model import ModelSpec
from inference.protocols.model_toml import read_model_toml

MODELS = Path(__file__).parents[3] / "models"

WINDOW = """
format = 1

[model]
task = "sensor_window"

[sensor_window]
input = "rows"
rows = 2

[[sensor_window.features]]
name = "furnace_temperature"
unit = "degC"
valid_min = 1400
valid_max = 1700

[[sensor_window.features]]
name = "pressure"
unit = "Pa"
valid_min = 0
valid_max = 40

[output]
name = "defect_probability"
kind = "binary"
labels = ["ok", "defect"]
threshold = 0.3
short_history_confidence = [0.9, 1]
"""
IMAGE = """
[model]
task = "image"

[image]
input = "pixels"
width = 128
height = 96

[output]
name = "probabilities"
kind = "classes"
labels = ["none", "bubble", "crack"]
"""


def problems_of(text: str) -> list[str]:
    spec, problems = read_model_toml(text.encode())
    assert (spec is None) == bool(problems)
    return problems


def test_a_sensor_window_is_read() -> None:
    spec, problems = read_model_toml(WINDOW.encode())
    assert problems == []
    assert spec is not None
    assert spec.sensor_window is not None
    assert spec.output is not None
    assert [feature.name for feature in spec.sensor_window.features] == ["furnace_temperature", "pressure"]
    assert spec.sensor_window.features[0].valid_max == 1700.0
    assert spec.output.short_history_confidence == (0.9, 1.0)


def test_an_image_is_read() -> None:
    spec, problems = read_model_toml(IMAGE.encode())
    assert problems == []
    assert spec is not None
    assert spec.image is not None
    assert (spec.image.width, spec.image.height, spec.image.resample) == (128, 96, "box")


def test_an_empty_file_declares_nothing() -> None:
    assert read_model_toml(b"") == (ModelSpec(), [])


@pytest.mark.parametrize("name", ["lstm_defect_predictor", "vit_defect_detector"])
def test_the_bundled_models_declare_nothing_wrong(name: str) -> None:
    assert problems_of((MODELS / name / "1" / "model.toml").read_text()) == []


def test_the_documented_examples_declare_nothing_wrong() -> None:
    page = (MODELS.parent / "docs" / "model-repository.md").read_text()
    examples = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    assert len(examples) == 2
    assert [problems_of(example) for example in examples] == [[], []]


@pytest.mark.parametrize(("text", "isolation"), [("", "thread"), ("[runtime]\nisolation = 'process'", "process")])
def test_a_model_runs_in_threads_unless_its_package_asks_for_a_process(text: str, isolation: str) -> None:
    spec, problems = read_model_toml(text.encode())
    assert problems == []
    assert spec is not None
    assert spec.runtime.isolation == isolation


def test_five_mistakes_are_five_problems() -> None:
    text = (
        WINDOW.replace("rows = 2", "rows = 2.5")
        .replace("valid_min = 0", "valid_min = 40")
        .replace("threshold", "treshold")
        .replace('["ok", "defect"]', '["ok"]')
        .replace('unit = "degC"', "")
    )
    assert problems_of(text) == [
        "sensor_window.rows: given 2.5, accepted a whole number",
        "sensor_window.features[0].unit: given nothing, accepted text",
        "sensor_window.features[1].valid_min: given 40, accepted less than valid_max (40)",
        "output.treshold: given an unknown key, accepted 'threshold' was meant?",
        "output.labels: given 1, accepted 2 for kind 'binary'",
    ]


def test_a_field_that_cannot_be_read_hides_no_other_of_its_section() -> None:
    text = WINDOW.replace("rows = 2", "rows = 0").replace("valid_min = 0", 'valid_min = "x"\nnormalisation_std = 0')
    problems = problems_of(text.replace('["ok", "defect"]', "3").replace("threshold = ", "threshold = 1"))
    assert [problem for problem in problems if problem.startswith("sensor_window.")] == [
        "sensor_window.features[1].valid_min: given 'x', accepted a finite number",
        "sensor_window.features[1].normalisation_std: given 0, accepted more than 0",
        "sensor_window.rows: given 0, accepted 1 to 65536",
    ]
    assert any(problem.startswith("output.labels: given 3") for problem in problems)
    assert any(problem.startswith("output.threshold: given 1") for problem in problems)


MISTAKES = [
    ("format = 1", "format = 2", "format: given 2, accepted 1"),
    ("format = 1", "formt = 1", "formt: given an unknown key, accepted 'format' was meant?"),
    ('task = "sensor_window"', 'task = "window"', "model.task: given 'window', accepted 'sensor_window' or 'image'"),
    ('task = "sensor_window"', "", "sensor_window: given a table, accepted only with model.task = 'sensor_window'"),
    ('task = "sensor_window"', 'task = "image"', "image: given nothing, accepted a table [image]"),
    ("rows = 2", "rows = 0", "sensor_window.rows: given 0, accepted 1 to 65536"),
    ("rows = 2", "rows = 3", "output.short_history_confidence: given 2 numbers, accepted 3, one for each row"),
    ("rows = 2", "rows = 2\nrow_interval_s = -1", "sensor_window.row_interval_s: given -1, accepted 0"),
    ("rows = 2", "rows = true", "sensor_window.rows: given True, accepted a whole number"),
    ('"pressure"', '"furnace_temperature"', "sensor_window.features: given 'furnace_temperature' twice, accepted once"),
    ('"pressure"', '""', "sensor_window.features[1].name: given '', accepted the sensor's name"),
    ("valid_max = 40", "valid_max = nan", "sensor_window.features[1].valid_max: given nan, accepted a finite number"),
    ("valid_max = 40", "valid_max = 40\nnormalisation_std = 0", "normalisation_std: given 0, accepted more than 0"),
    (
        "valid_max = 40",
        'valid_max = 40\nwhen_missing = "x"',
        "when_missing: given 'x', accepted 'refuse' or 'hold_last'",
    ),
    ("threshold = 0.3", "threshold = 1", "output.threshold: given 1, accepted a probability between 0 and 1"),
    ("[0.9, 1]", "[0.9, 1.1]", "output.short_history_confidence: given a factor outside"),
    ("[0.9, 1]", "0.9", "output.short_history_confidence: given 0.9, accepted a list of a finite number"),
    ('["ok", "defect"]', '["ok", "ok"]', "output.labels: given 'ok' twice, accepted once"),
    (
        'kind = "binary"',
        'kind = "classes"\nx = 1',
        "output.x: given an unknown key, accepted one of kind, labels, name",
    ),
    ("[output]", "[calibration]\ntemperature = 0\n[output]", "calibration.temperature: given 0, accepted more than 0"),
    ("[output]", "[limits]\ntimeout_ms = 0\n[output]", "limits.timeout_ms: given 0, accepted more than 0"),
    (
        "[output]",
        '[limits]\npriority = "urgent"\n[output]',
        "limits.priority: given 'urgent', accepted 'critical' or 'high' or 'normal' or 'low'",
    ),
    ("[output]", "[limits]\nbatch_rows_max = 0\n[output]", "limits.batch_rows_max: given 0, accepted 1 to 65536"),
    (
        "[output]",
        '[runtime]\nisolation = "thred"\n[output]',
        "runtime.isolation: given 'thred', accepted 'thread' or 'process'",
    ),
    (
        "[output]",
        "[runtime]\nisolated = true\n[output]",
        "runtime.isolated: given an unknown key, accepted 'isolation' was meant?",
    ),
    ("[output]", "[outputs]", "outputs: given an unknown key, accepted 'output' was meant?"),
    ("[output]", "[outputs]", "output: given nothing, accepted a table [output], since model.task is 'sensor_window'"),
]


@pytest.mark.parametrize(("right", "wrong", "problem"), MISTAKES, ids=lambda text: text[:20].replace("\n", " "))
def test_a_mistake_is_named_with_what_is_given_and_accepted(right: str, wrong: str, problem: str) -> None:
    assert right in WINDOW
    assert any(line.startswith(problem) or problem in line for line in problems_of(WINDOW.replace(right, wrong, 1)))


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("width = 128", "width = 9000", "image.width: given 9000, accepted 1 to 8192 pixels"),
        ("height = 96", "height = 96\nnormalisation_mean = [1.0]", "given 1 numbers, accepted 3, one a channel"),
        (
            "height = 96",
            "height = 96\nnormalisation_std = [1, 2, 0]",
            "given [1.0, 2.0, 0.0], accepted numbers above 0",
        ),
        ("height = 96", 'height = 96\nresample = "nearest"', "image.resample: given 'nearest', accepted 'box' or"),
        ('["none", "bubble", "crack"]', '["none"]', "output.labels: given 1, accepted at least 2 for kind 'classes'"),
        ("[output]", "[output]\nshort_history_confidence = [1]", "accepted only with model.task 'sensor_window'"),
    ],
)
def test_an_image_s_mistakes_are_named_too(right: str, wrong: str, problem: str) -> None:
    (only,) = problems_of(IMAGE.replace(right, wrong))
    assert problem in only


def test_a_section_that_cannot_be_read_brings_no_other_into_blame() -> None:
    (only,) = problems_of(WINDOW.replace('task = "sensor_window"', "task = 3"))
    assert only.startswith("model.task: given 3")
    (only,) = problems_of(WINDOW.replace('input = "rows"', ""))
    assert only == "sensor_window.input: given nothing, accepted text"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "is not UTF-8 text (byte 0)"),
        (b"a = ", "is not TOML: "),
        (b"a = " + b"[" * 5000, "is not TOML: "),
        (b"model = 3", "model: given 3, accepted a table with"),
        (b"sensor_window = []", "sensor_window: given [], accepted a table with input, rows, features"),
    ],
)
def test_what_is_no_table_of_a_model_is_refused(content: bytes, problem: str) -> None:
    spec, problems = read_model_toml(content)
    assert spec is None
    assert problems[0].startswith(problem)


def written(value: object) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


SECTIONS = st.sampled_from(["format", "model", "sensor_window", "image", "output", "limits", "other"])
KEYS = st.sampled_from(["input", "rows", "features", "name", "kind", "labels", "width", "height", "task", "other"])
VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=8,
)


@given(st.dictionaries(SECTIONS, VALUES))
def test_any_toml_is_a_spec_or_a_list_of_problems(table: dict[str, object]) -> None:
    text = "\n".join(f"{key} = {written(value)}" for key, value in table.items())
    problems = problems_of(text)
    assert problems == sorted(set(problems), key=problems.index)
