"""`from inference import Predictor`: the in-process door."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inference
from inference import Predictor
from inference.errors import InvalidTensor, InvalidValues, NonFiniteOutput, RunCrashed, UnknownField
from inference.pipeline.postprocess import Predictions
from inference.protocols.inference_json import DefectProbability, DefectType
from inference.runtime.child_session import ChildSession
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer
from tests.inference.runtime.child_twin import until_busy

LSTM = ROOT / "models" / "lstm_defect_predictor"
VIT = ROOT / "models" / "vit_defect_detector"
STREAM = "/api/inference/stream"
NAMES = ("furnace_temperature", "belt_speed", "pressure")
UNKEPT = RuntimeSettings(profile_cache="")


def windows(count: int) -> np.ndarray:
    """Windows of a plausible line, FP32 [count, 32, 3]."""
    random = np.random.default_rng(7)
    return random.normal((1550, 150, 15.5), (4, 3, 0.5), (count, 32, 3)).astype(np.float32)


def named(row: np.ndarray) -> dict[str, object]:
    return dict(zip(NAMES, row.tolist(), strict=True))


@pytest.fixture(scope="module")
def lstm() -> Predictor:
    return Predictor(LSTM, UNKEPT)


@pytest.fixture(scope="module")
def vit() -> Predictor:
    return Predictor(str(VIT), UNKEPT)


# ---- one -------------------------------------------------------------------------------------------------------------


def test_a_window_of_numbers_gives_a_result(lstm: Predictor) -> None:
    result = lstm.predict(windows(1)[0])
    assert isinstance(result, DefectProbability)
    assert 0 < result.defect_probability < 1
    assert (result.real_rows, result.input_quality) == (32, 1.0)
    assert result.processing_time_ms > 0


def test_rows_with_names_give_the_same_as_their_numbers(lstm: Predictor) -> None:
    window = windows(1)[0]
    by_name, by_number = lstm.predict([named(row) for row in window]), lstm.predict(window)
    assert isinstance(by_name, DefectProbability)
    assert isinstance(by_number, DefectProbability)
    assert by_name.defect_probability == by_number.defect_probability
    assert by_name.confidence == by_number.confidence


def test_a_short_history_is_filled_and_less_confident(lstm: Predictor) -> None:
    row = windows(1)[0, 0]
    short, filled = lstm.predict(row[None]), lstm.predict(np.repeat(row[None], 32, axis=0))
    assert isinstance(short, DefectProbability)
    assert isinstance(filled, DefectProbability)
    assert short.defect_probability == filled.defect_probability
    assert short.confidence < filled.confidence
    by_name = lstm.predict(named(row))
    assert isinstance(by_name, DefectProbability)
    assert (by_name.confidence, by_name.real_rows) == (short.confidence, 1)


def test_a_picture_comes_as_file_or_as_pixels(vit: Predictor) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    from_file, from_pixels = vit.predict(buffer.getvalue()), vit.predict(pixels)
    assert isinstance(from_file, DefectType)
    assert isinstance(from_pixels, DefectType)
    assert from_file.probabilities == from_pixels.probabilities
    assert from_file.defect_type == max(from_file.probabilities, key=lambda label: from_file.probabilities[label])


@pytest.mark.parametrize("wrong", [np.full((32, 3), np.nan, np.float32), np.zeros((32, 2), np.float32), "rows", []])
def test_what_the_server_would_refuse_is_refused(lstm: Predictor, wrong: object) -> None:
    with pytest.raises(InvalidValues):
        lstm.predict(wrong)


def test_an_unknown_name_is_refused(lstm: Predictor) -> None:
    with pytest.raises(UnknownField, match="presure"):
        lstm.predict([{"presure": 15.5}])


# ---- many ------------------------------------------------------------------------------------------------------------


def test_many_windows_answer_as_each_alone(lstm: Predictor) -> None:
    many = lstm.predict_many(windows(50))
    assert isinstance(many, Predictions)
    assert many.probabilities.shape == many.confidence.shape == many.decisions.shape == (50,)
    for place, window in enumerate(windows(50)):
        one = lstm.predict(window)
        assert isinstance(one, DefectProbability)
        assert many.probabilities[place] == pytest.approx(one.defect_probability, abs=1e-6)
        assert many.confidence[place] == pytest.approx(one.confidence, abs=1e-5)
        assert many.labels[many.decisions[place]] == one.decision


def test_many_pictures_answer_as_each_alone(vit: Predictor) -> None:
    side = vit.signature.inputs[0].shape[1]
    pictures = np.random.default_rng(2).integers(0, 256, (3, side, side, 3), np.uint8)
    many = vit.predict_many(pictures)
    assert isinstance(many, Predictions)
    assert many.probabilities.shape == (3, 5)
    for place, picture in enumerate(pictures):
        one = vit.predict(picture)
        assert isinstance(one, DefectType)
        assert many.labels[many.decisions[place]] == one.defect_type
        assert many.probabilities[place] == pytest.approx(list(one.probabilities.values()), abs=1e-5)


def test_the_first_call_with_many_measures_the_batch_size_and_keeps_it(tmp_path: Path) -> None:
    kept = RuntimeSettings(profile_cache=str(tmp_path))
    first = Predictor(LSTM, kept)
    assert first.profile.knee_source == "probe"
    first.predict_many(windows(1))
    assert first.profile.knee_source == "probe"  # one row fits, so nothing has to be known
    first.predict_many(windows(200))
    assert first.profile.knee_source == "measured"
    second = Predictor(LSTM, kept)
    assert (second.profile.knee_source, second.profile.knee) == ("cache", first.profile.knee)


def test_no_inputs_are_refused(lstm: Predictor) -> None:
    with pytest.raises(InvalidValues):
        lstm.predict_many(windows(0))


# ---- other callers ---------------------------------------------------------------------------------------------------


async def test_the_async_forms_answer_the_same_and_leave_the_loop_free(lstm: Predictor) -> None:
    window = windows(1)[0]
    one, many = await asyncio.gather(lstm.apredict(window), lstm.apredict_many(windows(20)))
    alone = lstm.predict(window)
    assert isinstance(one, DefectProbability)
    assert isinstance(alone, DefectProbability)
    assert one.defect_probability == alone.defect_probability
    many_alone = lstm.predict_many(windows(20))
    assert isinstance(many, Predictions)
    assert isinstance(many_alone, Predictions)
    assert (many.probabilities == many_alone.probabilities).all()


def test_threads_share_a_predictor(lstm: Predictor) -> None:
    start = threading.Barrier(4)
    given = windows(40)

    def ask(thread: int) -> list[float]:
        start.wait()
        results = [lstm.predict(window) for window in given[thread::4]]
        return [result.defect_probability for result in results if isinstance(result, DefectProbability)]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(ask, range(4)))
    assert together == [ask_alone(lstm, given[thread::4]) for thread in range(4)]


def ask_alone(predictor: Predictor, given: np.ndarray) -> list[float]:
    results = [predictor.predict(window) for window in given]
    return [result.defect_probability for result in results if isinstance(result, DefectProbability)]


# ---- models ----------------------------------------------------------------------------------------------------------


def test_the_highest_version_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    for version, step in ((2, 2.0), (10, 10.0)):
        tiny_models.package(tmp_path, "adder", version, lambda path, step=step: tiny_models.adder(path, step=step))
    x = {"x": np.array([[1.0]], np.float32)}
    for path, key, y in (("adder", "adder/10", 11.0), ("adder/2", "adder/2", 3.0)):
        with Predictor(tmp_path / path, UNKEPT) as predictor:
            assert str(predictor.key) == key
            assert predictor.predict(x)["y"].tolist() == [[y]]


def test_any_onnx_file_can_be_asked(tmp_path: Path) -> None:
    file = tiny_models.two_inputs(tmp_path / "sums.onnx")
    with Predictor(file, UNKEPT) as predictor:
        ab = {name: np.arange(200, dtype=np.float32).reshape(100, 2) for name in "ab"}
        many = predictor.predict_many(ab)
        assert (many["sum"] == 2 * ab["a"]).all()
        assert (many["product"] == ab["a"] ** 2).all()
        assert predictor.predict({"a": [[1, 2]], "b": [[3, 4]]})["sum"].tolist() == [[4, 6]]
        with pytest.raises(InvalidTensor, match="FP64"):
            predictor.predict({"a": ab["a"].astype(np.float64), "b": ab["b"]})


def test_a_model_that_runs_alone_takes_one_request_at_a_time(tmp_path: Path) -> None:
    with Predictor(tiny_models.time_first(tmp_path / "sums.onnx"), UNKEPT) as predictor:
        x = {"x": np.ones((3, 2), np.float32)}
        assert predictor.predict(x)["y"].tolist() == [[1, 1], [2, 2], [3, 3]]
        with pytest.raises(InvalidValues, match="one call of `predict` for each"):
            predictor.predict_many(x)


def test_nan_is_no_answer(tmp_path: Path) -> None:
    with Predictor(tiny_models.nan_model(tmp_path / "log.onnx"), UNKEPT) as predictor:
        with pytest.raises(NonFiniteOutput):
            predictor.predict({"x": np.array([[-1.0]], np.float32)})
        with pytest.raises(NonFiniteOutput):
            predictor.predict_many({"x": np.array([[1.0], [-1.0]], np.float32)})


def test_a_model_in_a_process_of_its_own_does_not_take_the_caller_along(tmp_path: Path) -> None:
    toml = '[runtime]\nisolation = "process"'
    tiny_models.package(tmp_path, "loop", 1, tiny_models.looping, toml=toml)
    with Predictor(tmp_path / "loop", UNKEPT) as predictor:
        x = {"x": np.array([[2.0]], np.float32)}
        assert predictor.predict(x)["y"].tolist() == [[2.0]]
        session = predictor._session
        assert isinstance(session, ChildSession)
        crash = threading.Thread(target=lambda: (until_busy(session.pids[0]), os.kill(session.pids[0], signal.SIGSEGV)))
        crash.start()
        with pytest.raises(RunCrashed, match="died by SIGSEGV"):
            predictor.predict({"x": np.array([[1e15]], np.float32)})
        crash.join()


def test_a_path_without_a_model_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(ModelPackageInvalid, match="the folder of one version"):
        Predictor(tmp_path / "nothing")
    with pytest.raises(ModelPackageInvalid, match="the folder of one version"):
        Predictor(tmp_path)


def test_a_broken_package_is_reported(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "window", 1, tiny_models.adder, 'format = 1\n[model]\ntask = "imag"\n')
    with pytest.raises(ModelPackageInvalid, match="task"):
        Predictor(place)


def test_a_closed_predictor_answers_no_more() -> None:
    predictor = Predictor(LSTM, UNKEPT)
    predictor.close()
    with pytest.raises(RuntimeError):
        predictor.predict(windows(1)[0])


# ---- the same numbers everywhere -------------------------------------------------------------------------------------


def test_a_line_on_the_server_gives_what_its_rows_give_here(lstm: Predictor, bundled_server: LiveServer) -> None:
    window = windows(3)[2]
    for second, row in enumerate(window):
        fields = {**named(row), "timestamp": f"2025-12-05T10:00:{second:02}Z"}
        body = {"model_name": "lstm_defect_predictor", "data": fields, "stream_id": "same numbers"}
        reply = bundled_server.post(STREAM, body)
        here = lstm.predict(window[: second + 1])
        assert isinstance(here, DefectProbability)
        there = reply.json["result"]
        assert there["defect_probability"] == pytest.approx(here.defect_probability, abs=1e-6)
        assert (there["confidence"], there["real_rows"]) == (pytest.approx(here.confidence, abs=1e-5), second + 1)


# ---- the package -----------------------------------------------------------------------------------------------------


def test_the_package_knows_its_names_and_no_others() -> None:
    assert "Predictor" in dir(inference)
    with pytest.raises(AttributeError, match="Predictr"):
        inference.Predictr  # noqa: B018 - the attribute access is what is tested


def test_the_door_loads_no_server() -> None:
    code = "import sys; from inference import Predictor; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert loaded.isdisjoint({"starlette", "uvicorn", "structlog", "typer", "PIL", "prometheus_client", "asyncio"})
