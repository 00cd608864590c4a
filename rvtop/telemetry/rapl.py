"""Energy of this machine's processors by RAPL: the counters of whole packages that Linux shows below
``/sys/class/powercap`` (``intel-rapl:N``, on AMD's processors too).

Format: https://docs.kernel.org/power/powercap/powercap.html. Since Linux 5.10 only root may read them
(CVE-2020-8694): elsewhere, and on a virtual machine, there are none. A package holds its cores; its memory is
not in it.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path

from rvtop.telemetry.sample import PackageSample, Sample

POWERCAP = Path("/sys/class/powercap")
_LONGEST = 64  # characters of a counter's file


@dataclass(slots=True)
class _Package:
    """A package's counter, which begins anew at ``range_uj``."""

    folder: Path
    index: int
    range_uj: int
    last_uj: int
    t_ns: int
    joules: float = 0.0  # since we began to watch

    def read(self) -> float | None:
        """Adds what was used since the last reading; the mean power since then in W. Raises OSError and
        ValueError."""
        now_uj, now_ns = _number(self.folder / "energy_uj"), time.perf_counter_ns()
        used = (now_uj - self.last_uj) % (self.range_uj + 1) / 1e6
        passed_s = (now_ns - self.t_ns) / 1e9
        self.joules += used
        self.last_uj, self.t_ns = now_uj, now_ns
        return used / passed_s if passed_s > 0 else None


class RaplSource:
    """This machine's processor packages, as ``packages`` found them; see ``TelemetrySource``."""

    def __init__(self, packages: list[_Package], name: str = "rapl", node: str | None = None) -> None:
        self.name = name
        self._packages = packages
        self._node = node or platform.node()

    async def poll(self) -> Sample:
        """Reads all counters: files of a few bytes that never block."""
        try:
            found = []
            for package in self._packages:
                watts = package.read()
                found.append(PackageSample(self._node, package.index, watts, package.joules))
        except (OSError, ValueError) as problem:
            return Sample(time.perf_counter_ns(), self.name, error=f"RAPL: {problem}")
        return Sample(time.perf_counter_ns(), self.name, packages=tuple(found))

    async def close(self) -> None:
        """Holds nothing open."""


def packages(root: Path | None = None) -> list[_Package]:
    """The packages whose counters can be read, by their numbers; none where there is no RAPL or it is for
    root alone."""
    found = []
    for folder in sorted((root or POWERCAP).glob("intel-rapl:*")):
        try:
            kind, _, number = (folder / "name").read_text("utf-8").strip().partition("-")
            if kind != "package" or not number.isdecimal():  # a part of one, or the whole board
                continue
            most, now = _number(folder / "max_energy_range_uj"), _number(folder / "energy_uj")
        except (OSError, ValueError):
            continue
        found.append(_Package(folder, int(number), most, now, time.perf_counter_ns()))
    return sorted(found, key=lambda package: package.index)


def _number(path: Path) -> int:
    with path.open(encoding="ascii") as file:
        return int(file.read(_LONGEST))
