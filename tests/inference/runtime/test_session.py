"""The real ONNX Runtime on tiny models: every tensor type, every way to be refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from inference.runtime.session import OnnxSession, OnnxSessionProvider, RunStopped
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import DTYPES, TensorSpec
from tests.inference import tiny_models

OPTIONS = RuntimeSettings()


def load(file: Path, options: RuntimeSettings = OPTIONS) -> OnnxSession:
    return OnnxSessionProvider().load(file, options)


def test_a_model_runs_and_gives_its_outputs_by_name(tmp_path: Path) -> None:
    session = load(tiny_models.two_inputs(tmp_path / "model.onnx"))
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    outputs = session.run({"b": b, "a": a})
    assert list(outputs) == ["sum", "product"]
    assert outputs["sum"].tolist() == [[4, 6]]
    assert outputs["product"].tolist() == [[3, 8]]


def test_the_signature_is_the_one_of_the_file(tmp_path: Path) -> None:
    signature = load(tiny_models.window_model(tmp_path / "model.onnx", rows=4)).signature
    assert signature.inputs == (TensorSpec("rows", "FP32", ("batch", 4, 3)),)
    assert signature.outputs == (TensorSpec("defect_probability", "FP32", ("batch", 1)),)


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_tensor_type_goes_through_unchanged(tmp_path: Path, datatype: str) -> None:
    session = load(tiny_models.all_types(tmp_path / "model.onnx", datatype))
    values = ["Glas", "", "ü"] if datatype == "BYTES" else [0, 1, 1]
    given = np.array([values, values[::-1]]).astype(DTYPES[datatype])
    answer = session.run({"x": given})["y"]
    assert session.signature.inputs[0].datatype == datatype
    assert answer.dtype == given.dtype
    assert answer.tolist() == given.tolist()


def test_strings_in_numbers_and_strings_out(tmp_path: Path) -> None:
    session = load(tiny_models.string_model(tmp_path / "model.onnx"))
    outputs = session.run({"name": np.array(["crack", "hair"], object)})
    assert outputs["label"].tolist() == [2, -1]
    assert outputs["echo"].tolist() == ["crack", "hair"]


def test_a_scalar_has_no_dimensions_in_or_out(tmp_path: Path) -> None:
    session = load(tiny_models.scalar(tmp_path / "model.onnx"))
    answer = session.run({"x": np.array(1.5, np.float32)})["y"]
    assert session.signature.inputs[0].shape == ()
    assert (answer.shape, float(answer)) == ((), 3.0)


def test_an_input_of_open_rank_takes_any_shape(tmp_path: Path) -> None:
    session = load(tiny_models.open_rank(tmp_path / "model.onnx"))
    assert not session.signature.inputs[0].ranked
    for shape in ((), (3,), (2, 1, 2)):
        inputs = {"x": np.ones(shape, np.float32)}
        session.signature.check("open/1", inputs)
        assert session.run(inputs)["y"].shape == shape


def test_inputs_need_not_lie_in_one_piece(tmp_path: Path) -> None:
    session = load(tiny_models.all_types(tmp_path / "model.onnx"))
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (wide[:, 1:], wide[:, :3].T, np.broadcast_to(np.float32(7), (2, 3))):
        assert session.run({"x": given})["y"].tolist() == given.tolist()


def test_a_run_is_bounded_by_fixed_shapes_without_control_flow_on_one_thread(tmp_path: Path) -> None:
    fixed = tiny_models.window_model(tmp_path / "model.onnx", rows=4)
    assert load(fixed).bounded
    assert not load(fixed, RuntimeSettings(intra_op_threads=2)).bounded
    assert not load(tiny_models.slow(tmp_path / "slow.onnx")).bounded  # a Loop
    assert not load(tiny_models.open_rank(tmp_path / "open.onnx")).bounded
    assert not load(tiny_models.needs_width_8(tmp_path / "free.onnx")).bounded


def test_external_data_is_read_from_the_package(tmp_path: Path) -> None:
    session = load(tiny_models.external_data(tmp_path / "model.onnx", "parts/weights.bin"))
    answer = session.run({"x": np.zeros((1, 256), np.float32)})["y"]
    assert answer.tolist() == [list(range(256))]


def test_external_data_behind_a_link_is_not_read(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    model = tiny_models.external_data(package / "model.onnx")
    (package / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (package / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(ModelPackageInvalid, match=r"weights\.bin: external data behind a symbolic link"):
        load(model)


def test_what_the_runtime_raises_comes_through(tmp_path: Path) -> None:
    session = load(tiny_models.fails_on(tmp_path / "model.onnx", 13))
    with pytest.raises(Exception, match="indices element out of data bounds"):
        session.run({"x": np.array([[13]], np.float32)})
    assert session.run({"x": np.array([[12]], np.float32)})["y"].tolist() == [[12]]


def test_a_failed_run_says_nothing_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = load(tiny_models.fails_on(tmp_path / "model.onnx", 13))
    with pytest.raises(Exception, match="out of data bounds"):
        session.run({"x": np.array([[13]], np.float32)})
    load(tiny_models.declared_one_gives_n(tmp_path / "other.onnx")).run({"x": np.ones((2, 3), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_several_threads_may_run_one_session(tmp_path: Path) -> None:
    session = load(tiny_models.adder(tmp_path / "model.onnx"))
    wrong: list[int] = []

    def work(number: int) -> None:
        given = np.full((1, 1), number, np.float32)
        wrong.extend(number for _ in range(200) if session.run({"x": given})["y"][0, 0] != number + 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_session_runs_no_more(tmp_path: Path) -> None:
    session = load(tiny_models.adder(tmp_path / "model.onnx"))
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run({"x": np.ones((1, 1), np.float32)})


# ---- seats -----------------------------------------------------------------------------------------------------------


def x(value: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value]], np.float32)}


def test_a_seat_that_is_stopped_runs_nothing_until_it_is_reset(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = load(tiny_models.looping(tmp_path / "model.onnx"))
    seat, other = session.seat(), session.seat()
    assert seat.run(x(3))["y"].tolist() == [[3]]
    seat.stop()
    with pytest.raises(RunStopped):
        seat.run(x(3))
    assert other.run(x(4))["y"].tolist() == [[4]]
    assert session.run(x(5))["y"].tolist() == [[5]]
    seat.reset()
    assert seat.run(x(3))["y"].tolist() == [[3]]
    assert capfd.readouterr() == ("", "")


def test_a_run_is_stopped_in_the_middle_and_no_other_is(tmp_path: Path) -> None:
    session = load(tiny_models.looping(tmp_path / "model.onnx"))
    seats = [session.seat(), session.seat()]
    ended: SimpleQueue[int] = SimpleQueue()

    def work(number: int) -> None:
        with pytest.raises(RunStopped):
            seats[number].run(x(1e15))
        ended.put(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for number in (1, 0):
        assert ended.empty()
        seats[number].stop()
        assert ended.get(timeout=30) == number


def test_what_the_runtime_raises_comes_through_a_seat_as_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seat = load(tiny_models.fails_on(tmp_path / "model.onnx", 13)).seat()
    with pytest.raises(Exception, match="indices element out of data bounds"):
        seat.run(x(13))
    assert seat.run(x(12))["y"].tolist() == [[12]]
    assert capfd.readouterr() == ("", "")


def test_a_seat_holds_no_model_of_a_closed_session(tmp_path: Path) -> None:
    session = load(tiny_models.adder(tmp_path / "model.onnx"))
    seat = session.seat()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        seat.run(x(1))
    seat.close()


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_corrupt_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    place = tiny_models.package(tmp_path, "broken", 3, tiny_models.corrupt)
    with pytest.raises(ModelPackageInvalid, match=r"Model broken/3 cannot be loaded:\n  - model\.onnx: it is"):
        load(place / "model.onnx")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPackageInvalid, match=r"model\.onnx: cannot be read \(No such file"):
        load(tmp_path / "model.onnx")


def test_a_whole_file_with_an_unknown_operator_is_refused_with_the_runtime_s_reason(tmp_path: Path) -> None:
    node = tiny_models.helper.make_node("NoSuchOperator", ["x"], ["y"])
    tensors = [tiny_models.tensor(name, ["batch", 1]) for name in "xy"]
    model = tiny_models.write(tmp_path / "model.onnx", [node], tensors[:1], tensors[1:])
    with pytest.raises(ModelPackageInvalid, match="NoSuchOperator"):
        load(model)


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    model = tiny_models.sequence_output(tmp_path / "model.onnx")
    with pytest.raises(ModelPackageInvalid, match=r"output 'pair': given seq\(tensor\(float\)\), accepted a tensor"):
        load(model)


# ---- devices ---------------------------------------------------------------------------------------------------------


def test_the_device_says_why_each_better_provider_was_passed_over(tmp_path: Path) -> None:
    device = load(tiny_models.adder(tmp_path / "model.onnx")).device
    assert device.provider == "cpu"
    assert [reason.partition(":")[0] for reason in device.passed_over] == ["tensorrt", "cuda"]
    assert all("not in this build of ONNX Runtime" in reason for reason in device.passed_over)
    assert device.runtime.startswith("onnxruntime 1.")


def test_no_provider_is_used_that_was_not_asked_for(tmp_path: Path) -> None:
    model = tiny_models.adder(tmp_path / "model.onnx")
    with pytest.raises(
        ModelPackageInvalid, match=r"none of the execution providers that are set works(.|\n)*cuda: not in"
    ):
        load(model, RuntimeSettings(providers=("cuda",)))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_passed_over_with_what_the_loader_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with CUDA on a machine without it, as ONNX Runtime shows it: no error, and another provider in use."""
    built_in = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: built_in)
    device = load(tiny_models.adder(tmp_path / "model.onnx")).device
    assert device.provider == "cpu"
    assert device.passed_over[1].startswith("cuda: failed to initialise: ")
    assert "libonnxruntime_providers_cuda.so: cannot open shared object file" in device.passed_over[1]


def test_a_provider_that_raises_is_passed_over_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: built_in)
    device = load(tiny_models.adder(tmp_path / "model.onnx")).device  # its warning is an error here
    assert device.provider == "cpu"
    assert device.passed_over[1].startswith("cuda: failed to initialise: Specified provider 'CUDAExecutionProvider'")


@pytest.mark.parametrize("spinning", [False, True])
def test_threads_are_as_many_as_set(tmp_path: Path, spinning: bool) -> None:
    options = RuntimeSettings(intra_op_threads=2, inter_op_threads=2, spinning=spinning)
    session = load(tiny_models.adder(tmp_path / "model.onnx"), options)
    assert session.device.threads == 2
    assert session.run({"x": np.ones((1, 1), np.float32)})["y"].tolist() == [[2]]


def test_onnx_runtime_is_imported_by_the_first_load_and_with_its_telemetry_off(tmp_path: Path) -> None:
    model = tiny_models.adder(tmp_path / "model.onnx")
    script = f"""
import os, sys, pathlib
from inference.runtime.session import OnnxSessionProvider
from inference.settings import RuntimeSettings
assert "onnxruntime" not in sys.modules
OnnxSessionProvider().load(pathlib.Path({str(model)!r}), RuntimeSettings())
assert "onnxruntime" in sys.modules and os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
