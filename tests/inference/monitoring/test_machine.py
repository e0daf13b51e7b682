"""The process's own figures are true, and GPUs show where they are."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import pytest

from inference.monitoring.machine import GpuReading, MachineCollector, NvidiaGpus


def figures(collector: MachineCollector) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_cpu_time_is_that_of_this_process():
    before, own_s = figures(MachineCollector(list)), time.process_time()
    while time.process_time() < own_s + 0.05:  # the system counts in ticks of 10 ms
        sum(range(1000))
    after = figures(MachineCollector(list))
    spent_s = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    assert 0.02 <= spent_s <= time.process_time() - own_s + 0.02


def test_threads_and_start_are_those_of_this_process():
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    before = figures(MachineCollector(list))["process_threads"]
    thread.start()
    try:
        assert figures(MachineCollector(list))["process_threads"] == before + 1
    finally:
        leave.set()
        thread.join()
    assert figures(MachineCollector(list))["process_start_time_seconds"] <= time.time()


def test_each_gpu_has_its_load_and_memory():
    readings = [GpuReading(0, "H200", 0.25, 10, 100), GpuReading(1, "H200 MIG", None, 20, 50)]
    found = figures(MachineCollector(lambda: readings))
    assert found["glassai_gpu_load 0 H200"] == 0.25
    assert found["glassai_gpu_memory_used_bytes 1 H200 MIG"] == 20
    assert found["glassai_gpu_memory_total_bytes 0 H200"] == 100
    assert "glassai_gpu_load 1 H200 MIG" not in found


def test_a_machine_without_gpus_has_no_gpu_figures():
    assert not [name for name in figures(MachineCollector(list)) if "gpu" in name]
    gpus = NvidiaGpus()
    assert gpus() == gpus()  # with NVML or without, asking twice is safe


class TwinNvml:
    """NVML with two GPUs, the second cut into instances and so without a load of its own."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    def __init__(self, *, driver: bool = True) -> None:
        self.driver = driver
        self.opened = 0

    def nvmlInit(self) -> None:
        self.opened += 1
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=10 + gpu, total=100)

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        if gpu == 1:
            raise self.NVMLError_NotSupported
        return SimpleNamespace(gpu=40)

    def nvmlDeviceGetName(self, gpu: int) -> str:
        return "H200"


def test_gpus_are_read_through_nvml(monkeypatch: pytest.MonkeyPatch):
    nvml = TwinNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpus = NvidiaGpus()
    expected = [GpuReading(0, "H200", 0.4, 10, 100), GpuReading(1, "H200", None, 11, 100)]
    assert gpus() == expected
    assert gpus() == expected
    assert nvml.opened == 1


def test_without_a_driver_there_are_no_gpus_and_nobody_asks_again(monkeypatch: pytest.MonkeyPatch):
    nvml = TwinNvml(driver=False)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpus = NvidiaGpus()
    assert gpus() == gpus() == []
    assert nvml.opened == 1
