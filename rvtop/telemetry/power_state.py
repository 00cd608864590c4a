"""What is held of each GPU and of this machine's processors between samples. No clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from rvtop.contract.snapshot import IDLE_UTIL, Gpu
from rvtop.telemetry.energy import Meter
from rvtop.telemetry.sample import GpuSample, PackageSample


@dataclass(slots=True)
class GpuState:
    """A GPU as ``source`` told of it last; its counts go on from one sample to the next."""

    sample: GpuSample
    source: str
    t_ns: int
    seconds: int = 0  # in which requests were in flight and its use was known
    idle: int = 0  # of these
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.meter.add(self.t_ns, self.sample.watts, self.sample.joules)

    def told(self, sample: GpuSample, source: str, t_ns: int) -> GpuState:
        """The same GPU at the next sample."""
        return GpuState(sample, source, t_ns, self.seconds, self.idle, self.meter)

    def count(self) -> None:
        """One second more in which requests were in flight."""
        if self.sample.util is not None:
            self.seconds += 1
            self.idle += self.sample.util < IDLE_UTIL

    def line(self, now_ns: int, stale_s: float | None) -> Gpu:
        """The GPU as it is shown; ``stale_s``: seconds since it was told of, where that is too long."""
        held, used = self.sample, self.meter.at(now_ns)
        return Gpu(
            held.node,
            held.index,
            held.name,
            held.memory_used,
            held.memory_total or None,  # 0 bytes in all: not known
            held.util,
            stale_s,
            self.idle / self.seconds if self.seconds else None,
            watts=held.watts,
            joules=used.joules,
            joules_integrated=used.integrated,
            joules_by=used.by,
            power_gap_s=used.gap_s,
        )


class PackageStates:
    """The processor packages of this machine together."""

    def __init__(self) -> None:
        self._packages: dict[tuple[str, int], PackageSample] = {}
        self._t_ns = 0

    def apply(self, packages: tuple[PackageSample, ...], t_ns: int) -> None:
        """Takes one sample of all of them in."""
        self._packages.update({(each.node, each.index): each for each in packages})
        self._t_ns = t_ns

    def watts(self, now_ns: int, fresh_s: float) -> float | None:
        """Their power, None where none was told within ``fresh_s``."""
        told = [each.watts for each in self._packages.values() if each.watts is not None]
        return sum(told) if told and now_ns - self._t_ns <= fresh_s * 1e9 else None

    def joules(self) -> float | None:
        """Their energy since we began to watch."""
        told = [each.joules for each in self._packages.values() if each.joules is not None]
        return sum(told) if told else None
