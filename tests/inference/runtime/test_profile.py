"""Whether a model batches: every trap that exists in the wild, and the models that may be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.model import ModelKey, ModelLimits, Signature
from inference.model_repository import read_package
from inference.runtime.function_session import FunctionSession
from inference.runtime.profile import BatchProfile, example_inputs, probe
from inference.runtime.session import OnnxSessionProvider, Session
from inference.settings import RuntimeSettings
from inference.tensor import DTYPES, Array, Dim, Tensors, TensorSpec
from tests.inference import tiny_models

LIMITS = ModelLimits()
MODELS = Path(__file__).parents[3] / "models"


def onnx(model: Path) -> Session:
    return OnnxSessionProvider().load(model, RuntimeSettings())


def probed(model: Path, example: Tensors | None = None, cached_knee: int | None = None) -> BatchProfile:
    return probe(onnx(model), example, LIMITS, cached_knee)


def signature(
    inputs: tuple[Dim, ...] = ("batch", 2), outputs: tuple[Dim, ...] = ("batch", 2), datatype: str = "FP32"
) -> Signature:
    return Signature((TensorSpec("x", datatype, inputs),), (TensorSpec("y", datatype, outputs),))


def rows(*values: float) -> Array:
    return np.array(values, np.float32).reshape(-1, 1)


# ---- models that batch -----------------------------------------------------------------------------------------------


def test_rows_that_answer_together_as_alone_are_batched(tmp_path: Path) -> None:
    profile = probed(tiny_models.adder(tmp_path / "model.onnx"))
    assert (profile.batched, profile.probed, profile.knee_source) == (True, True, "probe")
    assert profile.reason == "batches on axis 'batch': rows answer together as they do alone"
    assert profile.timings_s.keys() == {1, 2, 8}


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
def test_every_datatype_can_be_probed_without_an_example(tmp_path: Path, datatype: str) -> None:
    assert probed(tiny_models.all_types(tmp_path / "model.onnx", datatype)).batched


def test_strings_and_several_outputs_can_be_probed_too(tmp_path: Path) -> None:
    assert probed(tiny_models.string_model(tmp_path / "model.onnx")).batched
    assert probed(tiny_models.two_inputs(tmp_path / "model.onnx")).batched


@pytest.mark.parametrize("name", ["lstm_defect_predictor", "vit_defect_detector"])
def test_the_bundled_models_batch(name: str) -> None:
    package = read_package(MODELS, ModelKey(name, 1))
    profile = probe(onnx(package.onnx_file), package.example(), package.spec.limits, None)
    assert profile.batched, profile.reason


def test_a_nan_that_a_row_has_alone_as_well_is_no_difference(tmp_path: Path) -> None:
    profile = probed(tiny_models.nan_model(tmp_path / "model.onnx"), {"x": rows(-1, 0, 5)})
    assert profile.batched, profile.reason


def test_rounding_that_differs_with_the_size_of_the_batch_is_tolerated() -> None:
    def rounded(inputs: Tensors) -> Tensors:
        x = inputs["x"]
        return {"y": x * np.float32(1 + len(x) * 1e-6)}

    assert probe(FunctionSession(signature(), rounded), None, LIMITS, None).batched


# ---- models that must run alone --------------------------------------------------------------------------------------

TRAPS = [
    (tiny_models.batch_on_axis_1_out, "output 'y' has no named batch axis on axis 0 (shape [3, 'batch'])"),
    (tiny_models.fixed_batch_one, "input 'x' has no named batch axis on axis 0 (shape [1, 3])"),
    (tiny_models.declared_one_gives_n, "output 'y' has no named batch axis on axis 0 (shape [1])"),
    (tiny_models.scalar, "input 'x' has no named batch axis on axis 0 (shape [])"),
    (tiny_models.time_first, "output 'y' of a row depends on its batch"),
    (tiny_models.centred_on_batch, "output 'y' of a row depends on its batch"),
    (tiny_models.dynamic_int8, "output 'y' of a row depends on its batch"),
]


@pytest.mark.parametrize(("builder", "reason"), TRAPS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_model_whose_answers_batching_would_change_runs_alone(
    tmp_path: Path, builder: tiny_models.Builder, reason: str
) -> None:
    builder(tmp_path / "model.onnx")
    profile = probed(tmp_path / "model.onnx")
    assert (profile.batched, profile.probed, profile.knee, profile.knee_source) == (False, True, 1, "alone")
    assert profile.reason.startswith(f"runs alone: {reason}")


def test_a_scale_over_the_batch_is_found_with_rows_of_one_range_in_the_example(tmp_path: Path) -> None:
    """The example's rows have the same range, so that only the row that the probe makes up can show it."""
    alike = np.stack([np.roll(np.linspace(-1, 1, 8), turn) for turn in range(4)]).astype(np.float32)
    profile = probed(tiny_models.dynamic_int8(tmp_path / "model.onnx"), {"x": alike})
    assert not profile.batched


def test_an_axis_that_is_named_and_yet_takes_one_row_only_runs_alone() -> None:
    def one_row_only(inputs: Tensors) -> Tensors:
        return {"y": inputs["x"].reshape(1, 2)}

    profile = probe(FunctionSession(signature(), one_row_only), None, LIMITS, None)
    assert (profile.batched, profile.probed) == (False, True)
    assert profile.reason.startswith("runs alone: a batch fails: cannot reshape")


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (signature(("batch", 2), ("rows", 2)), "output 'y' has 'rows' on axis 0 where another tensor has 'batch'"),
        (signature(("n", "n"), ("n", 2)), "input 'x' has 'n' on another axis than 0 as well"),
        (signature((None, 2), ("batch", 2)), "input 'x' has no named batch axis"),
        (Signature((), (TensorSpec("y", "FP32", (1,)),)), "output 'y' has no named batch axis"),
    ],
)
def test_axes_that_do_not_agree_rule_batching_out(declared: Signature, reason: str) -> None:
    profile = probe(FunctionSession(declared, lambda _: {"y": np.ones((1, 2))}), None, LIMITS, None)
    assert (profile.batched, profile.probed) == (False, True)
    assert reason in profile.reason


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x[::-1], "of a row depends on its batch"),
        (lambda x: x + np.arange(len(x))[:, None], "of a row depends on its batch"),
        (lambda x: x * (1 + 1e-3 * (len(x) > 1)), "of a row depends on its batch"),
        (lambda x: x[:1], "has shape [1, 2] for 8 rows"),
        (lambda x: x.T if len(x) > 1 else x, "has shape [2, 8] for 8 rows"),
        (lambda x: np.repeat(x, len(x), axis=1), "has another shape in a batch"),
        (lambda x: np.concatenate([x, x]), "has shape [2, 2] for one row"),
        (lambda x: np.where(len(x) > 1, np.nan, x), "is NaN or infinite in one batch and another value in another"),
        (lambda x: np.where(len(x) > 1, x, np.nan), "is NaN or infinite in one batch and another value in another"),
        (
            lambda x: x * (np.nan if len(x) > 1 else np.inf),
            "is NaN or infinite in one batch and another value in another",
        ),
    ],
)
def test_a_model_that_only_claims_to_batch_runs_alone(function: object, reason: str) -> None:
    assert callable(function)
    session = FunctionSession(signature(), lambda inputs: {"y": function(inputs["x"]).astype(np.float32)})
    profile = probe(session, None, LIMITS, None)
    assert (profile.batched, profile.probed) == (False, True)
    assert reason in profile.reason


def test_one_step_of_a_whole_number_is_a_difference() -> None:
    session = FunctionSession(signature(datatype="INT64"), lambda inputs: {"y": inputs["x"] + (len(inputs["x"]) > 5)})
    assert not probe(session, None, LIMITS, None).batched


def test_a_small_output_beside_a_large_one_is_held_to_its_own_size() -> None:
    def of_two_sizes(inputs: Tensors) -> Tensors:
        x = inputs["x"]
        return {"y": np.stack([x[:, 0] * 1e3, x[:, 1] * (1 + 0.01 * (len(x) > 1))], axis=1).astype(np.float32)}

    assert not probe(FunctionSession(signature(), of_two_sizes), None, LIMITS, None).batched


def test_rows_that_are_all_alike_prove_nothing() -> None:
    """Nothing but the example's one row runs, so that no two different rows can be compared."""

    def picky(inputs: Tensors) -> Tensors:
        if (inputs["x"] != 3).any():
            raise ValueError("only threes")
        return {"y": inputs["x"]}

    profile = probe(FunctionSession(signature(), picky), {"x": np.full((5, 2), 3, np.float32)}, LIMITS, None)
    assert not profile.batched
    assert "no two different rows" in profile.reason


# ---- a probe that fails ----------------------------------------------------------------------------------------------


def test_a_probe_that_fails_proves_nothing() -> None:
    def broken(_: Tensors) -> Tensors:
        raise RuntimeError("no such device")

    profile = probe(FunctionSession(signature(), broken), None, LIMITS, None)
    assert (profile.batched, profile.probed, profile.knee, profile.knee_source) == (False, False, 1, "alone")
    assert profile.reason == "runs alone, not probed: no such device"


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ({"x": np.ones((3, 5), np.float32)}, "its example does not fit: x.shape[1]: given 5, accepted 2"),
        ({"z": np.ones((3, 2), np.float32)}, "its example does not fit: x: given nothing"),
        ({"x": np.array([["a", "b"]], object)}, "could not convert string to float"),
    ],
)
def test_an_example_of_another_model_proves_nothing_and_the_canary_still_fits(example: Tensors, reason: str) -> None:
    session = FunctionSession(signature(), lambda inputs: {"y": inputs["x"]})
    profile = probe(session, example, LIMITS, None)
    assert (profile.batched, profile.probed) == (False, False)
    assert reason in profile.reason
    session.signature.check("any/1", profile.canary)


def test_an_example_that_does_not_run_proves_nothing(tmp_path: Path) -> None:
    profile = probed(tiny_models.needs_width_8(tmp_path / "model.onnx"), {"x": np.ones((2, 7), np.float32)})
    assert not profile.probed


# ---- inputs ----------------------------------------------------------------------------------------------------------


def test_unknown_sizes_are_1_and_then_8(tmp_path: Path) -> None:
    profile = probed(tiny_models.needs_width_8(tmp_path / "model.onnx"))
    assert profile.batched
    assert profile.canary["x"].shape == (1, 8)


def test_inputs_are_made_up_for_every_kind_of_size() -> None:
    specs = [
        TensorSpec("fixed", "FP16", ("batch", 3)),
        TensorSpec("open", "BYTES", ("batch", None, "length")),
        TensorSpec("truth", "BOOL", ("batch",)),
    ]
    declared = Signature(tuple(specs), (TensorSpec("y", "FP32", ("batch",)),))
    inputs = example_inputs(declared, None, open_size=8)
    declared.check("any/1", inputs)
    assert {name: array.shape for name, array in inputs.items()} == {"fixed": (1, 3), "open": (1, 8, 8), "truth": (1,)}


def test_a_huge_input_costs_no_memory() -> None:
    declared = signature(("batch", 1 << 40), ("batch", 1))
    inputs = example_inputs(declared, None)
    declared.check("any/1", inputs)
    assert inputs["x"].strides == (0, 0)


def test_of_an_example_with_a_batch_axis_the_canary_is_the_first_row_in_the_model_s_dtype() -> None:
    inputs = example_inputs(signature(), {"x": np.array([[1, 2], [3, 4]])})
    assert inputs["x"].tolist() == [[1, 2]]
    assert inputs["x"].dtype == np.float32


def test_without_a_batch_axis_an_example_is_taken_whole() -> None:
    example = {"x": np.array(5.0)}
    assert example_inputs(signature((), ()), example)["x"].shape == ()
    example = {"x": np.ones((4, 2))}
    assert example_inputs(signature((4, 2), ("batch", 2)), example)["x"].shape == (4, 2)


# ---- the knee to start with ------------------------------------------------------------------------------------------


def waiting(row_s: float, call_s: float) -> FunctionSession:
    """A session whose time a call is known: on a clock of its own, that the probe reads."""

    def run(inputs: Tensors) -> Tensors:
        clock.now_s += call_s + row_s * len(inputs["x"])
        return {"y": inputs["x"]}

    return FunctionSession(signature(), run)


class Clock:
    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


clock = Clock()


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.runtime.profile.time", clock)


@pytest.mark.usefixtures("own_clock")
@pytest.mark.parametrize(
    ("row_s", "call_s", "knee"),
    [
        (0.001, 0.0, 1),  # 8 rows take 8 times a row
        (0.010, 0.001, 1),  # 7.4 times
        (0.010, 0.002, 8),  # 6.8 times
        (0.0, 0.001, 8),
    ],
)
def test_the_knee_starts_at_8_unless_a_batch_of_8_takes_7_times_a_row(row_s: float, call_s: float, knee: int) -> None:
    profile = probe(waiting(row_s, call_s), None, LIMITS, None)
    assert (profile.batched, profile.knee, profile.knee_source) == (True, knee, "probe")


@pytest.mark.usefixtures("own_clock")
def test_a_cached_knee_is_taken_and_costs_no_timing() -> None:
    profile = probe(waiting(0.001, 0), None, LIMITS, 48)
    assert (profile.knee, profile.knee_source) == (48, "cache")
    assert 8 not in profile.timings_s


@pytest.mark.usefixtures("own_clock")
@pytest.mark.parametrize("cached_knee", [None, 48])
def test_the_package_s_own_limit_holds(cached_knee: int | None) -> None:
    for limit in (1, 5):
        profile = probe(waiting(0, 0.001), None, ModelLimits(batch_rows_max=limit), cached_knee)
        assert (profile.batched, profile.knee) == (True, limit)


def test_a_cached_knee_does_not_spare_the_proof() -> None:
    session = FunctionSession(signature(), lambda inputs: {"y": inputs["x"] - inputs["x"].mean(axis=0)})
    assert not probe(session, None, LIMITS, 48).batched
