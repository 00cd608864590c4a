"""Which LoRA adapters an engine computes with now: vLLM tells it by the labels of one series, whose value is
when that was so (``vllm:lora_requests_info``). A page keeps a series for each set of adapters that there ever
was; the newest counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rvtop.contract.figures import SPLIT
from rvtop.telemetry.bounds import MOST_VALUES
from rvtop.telemetry.metrics import PREFIXES
from rvtop.text import NAME_LIMIT, printable

INFO_NAMES = frozenset(f"{prefix}lora_requests_info" for prefix in PREFIXES)
#: Times of several processes in front of an engine are added up, which no time is (2049): then none counts.
_LATEST = 2.5e9
RUNNING, WAITING = "adapters_running", "adapters_waiting"


class InfoSlot(NamedTuple):
    """A set of adapters. ``engine`` "": the page does not say whose it is."""

    engine: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]


def info_slot(labels: Mapping[str, str]) -> InfoSlot:
    """The place of a series of :data:`INFO_NAMES`."""
    running, waiting = (
        tuple(sorted(filter(None, labels.get(f"{state}_lora_adapters", "").split(","))))
        for state in ("running", "waiting")
    )
    return InfoSlot(labels.get("ReplicaId") or labels.get("engine") or "", running, waiting)


class Infos:
    """The newest set of each engine of a page."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, InfoSlot]] = {}

    def add(self, slot: InfoSlot, at: float) -> None:
        """Takes in one series."""
        held = self._newest.get(slot.engine)
        if held is None or at > held[0]:
            self._newest[slot.engine] = at, slot

    def gauges(self, engine: str, *, alone: bool) -> dict[str, float]:
        """1 for each adapter that runs, or waits, in an engine; ``alone``: the page tells of no other."""
        known = self._newest.get(engine) or (self._newest.get("") if alone else None)
        if known is None or known[0] > _LATEST:
            return {}
        slot = known[1]
        both = ((RUNNING, slot.running), (WAITING, slot.waiting))
        return {
            f"{key}{SPLIT}{printable(name, NAME_LIMIT)}": 1.0
            for key, names in both
            for name in names[:MOST_VALUES]
        }
