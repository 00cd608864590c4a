"""What a GPU and a server's processes use while something runs: power, share of time busy, CPU seconds."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.backends import processes

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class GpuWatch:
    """Samples the first GPU that CUDA may see every ``period_s`` while it is entered; empty where there is
    none. ``energy_j`` is NVML's own counter over that time."""

    period_s: float = 0.1
    samples: list[tuple[float, float, float]] = field(default_factory=list)  # seconds, watts, percent busy
    energy_j: float | None = None

    def __enter__(self) -> GpuWatch:
        self._device = _device()
        self._end = threading.Event()
        self._began_mj = self._counter()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._began_mj is not None and (ended := self._counter()) is not None:
            self.energy_j = (ended - self._began_mj) / 1e3

    @property
    def integrated_j(self) -> float | None:
        """Joules of the sampled power, by trapezoids."""
        if len(self.samples) < 2:
            return None
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)

    @property
    def busy(self) -> float | None:
        """Share of the time in which a kernel ran, from the first sample that had any to the last."""
        at = [number for number, sample in enumerate(self.samples) if sample[2] > 0]
        if not at:
            return None
        within = self.samples[at[0] : at[-1] + 1]
        return sum(sample[2] for sample in within) / len(within) / 100

    def _counter(self) -> float | None:
        if self._device is None:
            return None
        import pynvml

        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._device))
        except pynvml.NVMLError:
            return None

    def _sample(self) -> None:
        if self._device is None:
            return
        import pynvml

        while True:
            watts = pynvml.nvmlDeviceGetPowerUsage(self._device) / 1e3
            busy = float(pynvml.nvmlDeviceGetUtilizationRates(self._device).gpu)
            self.samples.append((time.monotonic(), watts, busy))
            if self._end.wait(self.period_s):
                break


def _device() -> Any:
    import pynvml

    try:
        pynvml.nvmlInit()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
        return pynvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdecimal() else 0)
    except pynvml.NVMLError:
        return None


class CpuWatch:
    """CPU seconds of a process and all below it, by name, between two calls."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._threads()
        self._began = time.monotonic()

    def used(self) -> dict[str, Any]:
        """``wall_s``, ``cpu_s`` by the processes' names (most first), and the ``busiest`` thread: its
        process's name, its own, and its share of a core."""
        wall = time.monotonic() - self._began
        by_name: dict[str, float] = defaultdict(float)
        busiest = (0.0, "", "")
        for key, (name, thread, seconds) in self._threads().items():
            used = seconds - self._before.get(key, (name, thread, 0.0))[2]
            by_name[name] += used
            busiest = max(busiest, (used / wall, name, thread))
        most = sorted(by_name.items(), key=lambda item: -item[1])
        return {
            "wall_s": round(wall, 2),
            "cpu_s": {name: round(seconds, 2) for name, seconds in most if seconds >= 0.05},
            "busiest": [busiest[1], busiest[2], round(busiest[0], 3)],
        }

    def _threads(self) -> dict[tuple[int, int], tuple[str, str, float]]:
        found = {}
        for process in processes.family(self._pid):
            for task in Path(f"/proc/{process.pid}/task").glob("*"):
                try:
                    text = (task / "stat").read_text()
                except OSError:  # it has ended
                    continue
                thread = text[text.index("(") + 1 : text.rindex(")")]
                parts = text[text.rindex(")") + 2 :].split()
                seconds = (int(parts[11]) + int(parts[12])) / _TICKS_A_SECOND
                found[process.pid, int(task.name)] = (process.name, thread, seconds)
        return found
