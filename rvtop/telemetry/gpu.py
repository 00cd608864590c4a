"""GPUs and other accelerators: NVML in this process (this machine only), and the pages of exporters."""

from __future__ import annotations

import asyncio
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rvtop.telemetry.bounds import is_figure
from rvtop.telemetry.exporters import SERIES, Series, label
from rvtop.telemetry.sample import GpuSample, Sample
from rvtop.text import NAME_LIMIT, printable

#: One of them is there where NVIDIA's driver is loaded: on Linux, in a container, under WSL.
_DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")


class GpuKey(NamedTuple):
    """Which GPU; ``node`` is empty when the page does not say."""

    node: str
    number: int


class GpuSlot(NamedTuple):
    """What one series of an exporter is. ``part`` is the part of the device, empty for a whole one."""

    key: GpuKey
    name: str
    series: Series
    part: str


def is_index(text: str) -> bool:
    """Whether a label is the index of a GPU."""
    return text.isdecimal() and len(text) <= 6


def exporter_slot(name: str, labels: Mapping[str, str]) -> GpuSlot | None:
    """The place of a series of ``exporters.SERIES``; None when it names no device."""
    exporter, series = SERIES[name]
    index = label(labels, exporter.index)
    if not is_index(index):
        return None
    model = label(labels, exporter.model, exporter.kind)
    return GpuSlot(
        GpuKey(label(labels, exporter.node), int(index)), model, series, label(labels, exporter.part)
    )


class GpuParts:
    """Collects an exporter's series of one device."""

    __slots__ = ("_name", "_parts", "_ranks")

    def __init__(self) -> None:
        self._name = "GPU"
        self._parts: dict[str, dict[str, float]] = {}
        self._ranks: dict[str, int] = {}

    def add(self, slot: GpuSlot, value: float) -> None:
        """Takes one series in. The same device listed once per pod counts once; parts add up."""
        if not is_figure(value):
            return
        self._name = slot.name
        field, scale, rank = slot.series
        held = self._ranks.setdefault(field, rank)
        if rank > held:
            return
        if rank < held:
            self._ranks[field] = rank
            self._parts[field] = {}
        self._parts.setdefault(field, {})[slot.part] = value * scale

    def sample(self, key: GpuKey, default_node: str) -> GpuSample:
        """The device at this moment."""
        value = {field: sum(parts.values()) for field, parts in self._parts.items()}
        used = value.get("used")
        total = value.get("total")
        if total is None and used is not None and "free" in value:
            total = used + value["free"] + value.get("reserved", 0.0)
        # Of use, power and energy each part tells its own or the whole device's.
        most = {field: max(parts.values()) for field, parts in self._parts.items()}
        return GpuSample(
            node=key.node or default_node,
            index=key.number,
            name=self._name,
            memory_used=used,
            memory_total=total,
            util=most.get("util"),
            watts=most.get("watts"),
            joules=most.get("joules"),
        )


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


class NvmlSource:
    """This machine's GPUs through NVIDIA's driver library. Without a driver it is quietly absent.

    The library's calls block, and for long when a GPU is sick, so they run in a daemon thread.
    """

    def __init__(self, name: str = "nvml", node: str | None = None) -> None:
        self.name = name
        self._node = node or platform.node()
        self._lock = threading.Lock()
        self._busy = False
        self._absent = False
        self._nvml: Any = None

    async def poll(self) -> Sample:
        """All GPUs at once; see ``TelemetrySource.poll``."""
        if self._absent:
            return Sample(time.perf_counter_ns(), self.name)
        with self._lock:
            if self._busy:
                return Sample(time.perf_counter_ns(), self.name, error="the NVIDIA driver does not answer")
            self._busy = True
        return await _in_daemon(self._read)

    async def close(self) -> None:
        """Lets go of the library."""
        nvml, self._nvml, self._absent = self._nvml, None, True
        if nvml is not None and not self._busy:
            nvml.nvmlShutdown()

    def _read(self) -> Sample:
        try:
            if self._nvml is None:
                self._nvml = _open_nvml()
            if self._nvml is None:
                self._absent = True
                return Sample(time.perf_counter_ns(), self.name)
            gpus = _read_gpus(self._nvml, self._node)
            return Sample(time.perf_counter_ns(), self.name, gpus=gpus)
        except _nvml_error() as problem:
            return Sample(time.perf_counter_ns(), self.name, error=f"NVML: {problem}")
        finally:
            with self._lock:
                self._busy = False


def _open_nvml() -> Any:
    """The library, ready; None without a driver (or a GPU that it could talk to)."""
    if not any(os.path.exists(path) for path in _DRIVER):  # the library takes 30 ms to import
        return None
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _nvml_error() -> type[Exception]:
    import pynvml

    error: type[Exception] = pynvml.NVMLError
    return error


def _read_gpus(nvml: Any, node: str) -> tuple[GpuSample, ...]:
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        # Version 2 leaves the driver's own reserve out of `used`, as nvidia-smi and DCGM do.
        memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        if memory is None:
            memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        util = _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        name = _asked(nvml, nvml.nvmlDeviceGetName, handle)
        milliwatts = _asked(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
        millijoules = _asked(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        gpus.append(
            GpuSample(
                node=node,
                index=index,
                name=printable(
                    name.decode("utf-8", "replace") if isinstance(name, bytes) else name or "GPU", NAME_LIMIT
                ),
                memory_used=None if memory is None else float(memory.used),
                memory_total=None if memory is None else float(memory.total),
                util=None if util is None else util.gpu / 100.0,
                watts=_times(milliwatts, 1e-3),
                joules=_times(millijoules, 1e-3),
            )
        )
    return tuple(gpus)


def _asked(nvml: Any, question: Callable[..., Any], *of: Any) -> Any:
    """The answer, or None where this GPU or driver does not know the question (MIG, laptops, old ones)."""
    try:
        return question(*of)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
        return None


async def _in_daemon(work: Callable[[], Sample]) -> Sample:
    """Runs ``work`` in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sample] = loop.create_future()

    def deliver(sample: Sample | None, problem: BaseException | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if problem is not None:
            answer.set_exception(problem)
        elif sample is not None:
            answer.set_result(sample)

    def run() -> None:
        sample, problem = None, None
        try:
            sample = work()
        except Exception as error:  # noqa: BLE001  # carried over to the waiting coroutine
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, sample, problem)

    threading.Thread(target=run, name="rvtop-nvml", daemon=True).start()
    return await answer
