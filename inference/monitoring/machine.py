"""What the process takes of the machine: CPU, memory, threads, and the GPUs where there are any."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment; memory in bytes, load from 0 to 1, or None where it is not measured."""

    index: int
    name: str
    load: float | None
    memory_used_bytes: int
    memory_total_bytes: int


class MachineCollector(Collector):
    """The process's own figures under the names that Prometheus clients use, and those of the GPUs."""

    def __init__(self, read_gpus: Callable[[], list[GpuReading]] | None = None) -> None:
        self._process = psutil.Process()
        self._read_gpus = read_gpus or NvidiaGpus()

    def describe(self) -> list[Metric]:
        """Nothing: the names are fixed."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family a figure."""
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            memory = self._process.memory_info()
            threads = self._process.num_threads()
            started = self._process.create_time()
        yield CounterMetricFamily(
            "process_cpu_seconds", "CPU time of the process, user and system.", value=cpu.user + cpu.system
        )
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory that is held in RAM.", value=memory.rss)
        yield GaugeMetricFamily("process_virtual_memory_bytes", "Memory that is addressed.", value=memory.vms)
        yield GaugeMetricFamily("process_threads", "Threads, those of ONNX Runtime too.", value=threads)
        yield GaugeMetricFamily("process_start_time_seconds", "Start of the process, Unix time.", value=started)
        yield from self._gpus()

    def _gpus(self) -> Iterator[Metric]:
        readings = self._read_gpus()
        if not readings:
            return
        labels = ("gpu", "name")
        load = GaugeMetricFamily("glassai_gpu_load", "Share of time in which the GPU worked, 0 to 1.", labels=labels)
        used = GaugeMetricFamily("glassai_gpu_memory_used_bytes", "GPU memory in use, of all processes.", labels=labels)
        total = GaugeMetricFamily("glassai_gpu_memory_total_bytes", "GPU memory.", labels=labels)
        for gpu in readings:
            at = (str(gpu.index), gpu.name)
            if gpu.load is not None:
                load.add_metric(at, gpu.load)
            used.add_metric(at, gpu.memory_used_bytes)
            total.add_metric(at, gpu.memory_total_bytes)
        yield from (load, used, total)


class NvidiaGpus:
    """Reads NVIDIA GPUs through NVML, if nvidia-ml-py is installed and a driver answers; otherwise there are none."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False

    def __call__(self) -> list[GpuReading]:
        """One reading a GPU."""
        if self._nvml is None and not self._absent:
            self._nvml = _open_nvml()
            self._absent = self._nvml is None
        if self._absent:
            return []
        return [self._reading(index) for index in range(self._nvml.nvmlDeviceGetCount())]

    def _reading(self, index: int) -> GpuReading:
        nvml = self._nvml
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        try:
            load = nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
        except nvml.NVMLError_NotSupported:  # a GPU that is cut into instances has no load of its own
            load = None
        return GpuReading(index, str(nvml.nvmlDeviceGetName(gpu)), load, memory.used, memory.total)


def _open_nvml() -> Any:  # pynvml has no types, and is there only with the gpu extra
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.info("GPUs are not measured: %s", error)
        return None
    return nvml
