"""Energy of one GPU or processor from what is sampled of it: its counter where it has one, else its power
integrated over time. Pure.

NVML's counter (``nvmlDeviceGetTotalEnergyConsumption``, Volta and later, mJ since the driver was loaded) and
Intel's RAPL count themselves, so that nothing between two samples is missed. Power (NVML's, DCGM's, Ray's
``ray_node_gpu_power_milliwatts``) is integrated by trapezoids: the area under the straight line between two
samples. Where no sample came for longer than ``BRIDGED_S`` nothing is known of the time between: it is left
out, and its seconds are told.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds between two samples of power that a straight line is drawn across. Ray brings its figures up to
#: date every 2.5 to 10 s, and a page of Ray 2.52 may leave them out once.
BRIDGED_S = 15.0
#: Where the energy is from.
COUNTER, POWER, BOTH = "counter", "power", "counter and power"


@dataclass(frozen=True, slots=True)
class Energy:
    """What a meter has counted. ``joules`` by the counter where there is one, ``integrated`` by power alone;
    None where that was not told. ``by``: COUNTER, POWER or BOTH. ``gap_s``: seconds that ``joules`` leaves
    out."""

    joules: float | None = None
    integrated: float | None = None
    by: str = ""
    gap_s: float = 0.0


class Meter:
    """Energy since the first sample."""

    __slots__ = ("_by", "_counted", "_gap_s", "_integrated", "_joules", "_t_ns", "_watts")

    def __init__(self) -> None:
        self._t_ns: int | None = None  # of the last sample that told anything
        self._watts: float | None = None
        self._counted: float | None = None  # what the counter said
        self._joules: float | None = None
        self._integrated: float | None = None
        self._by: set[str] = set()
        self._gap_s = 0.0

    def add(self, t_ns: int, watts: float | None, counter_j: float | None) -> None:
        """Takes a sample in: power in W, a counter in J, None where it does not tell. Samples come in the
        order of time. A counter that went back (the driver was loaded anew) counts from there on."""
        if watts is None and counter_j is None:
            return
        if self._t_ns is not None:
            self._between((t_ns - self._t_ns) / 1e9, watts, counter_j)
        if counter_j is not None:
            self._joules = self._joules or 0.0
        if watts is not None:
            self._integrated = self._integrated or 0.0
            self._joules = self._joules or 0.0
        self._t_ns, self._watts, self._counted = t_ns, watts, counter_j

    def _between(self, passed_s: float, watts: float | None, counter_j: float | None) -> None:
        area: float | None = None
        if watts is not None and self._watts is not None and 0 <= passed_s <= BRIDGED_S:
            area = passed_s * (watts + self._watts) / 2
            self._integrated = (self._integrated or 0.0) + area
        if counter_j is not None and self._counted is not None and counter_j >= self._counted:
            self._joules = (self._joules or 0.0) + counter_j - self._counted
            self._by.add(COUNTER)
        elif area is not None:
            self._joules = (self._joules or 0.0) + area
            self._by.add(POWER)
        else:
            self._gap_s += max(0.0, passed_s)

    def at(self, now_ns: int) -> Energy:
        """What was counted by ``now_ns``: since the last sample its power is taken to have stayed, for as
        long as a gap is bridged."""
        if self._t_ns is None:
            return Energy()
        since_s = (now_ns - self._t_ns) / 1e9
        more = (self._watts or 0.0) * since_s if 0 <= since_s <= BRIDGED_S else 0.0
        first = POWER if self._counted is None else COUNTER  # where there was one sample only
        by = BOTH if len(self._by) > 1 else next(iter(self._by), first)
        return Energy(_plus(self._joules, more), _plus(self._integrated, more), by, self._gap_s)


def _plus(value: float | None, more: float) -> float | None:
    return None if value is None else value + more
