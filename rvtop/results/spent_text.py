"""The energy and the money of a summary in words: for the end of a run, its card and its report. All pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.results.stored import inner, number
from rvtop.text import digits

_FROM = {"find_max": "found by --find-max", "goodput": "the goodput"}


def spent_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, its figures) of each block of the summary that is there: energy, cost, capacity."""
    made = []
    if energy := inner(summary, "energy"):
        made.append(("energy", _energy(energy)))
    if cost := inner(summary, "cost"):
        made.append(("cost", _cost(cost)))
    if capacity := inner(summary, "capacity"):
        rps, gpus = (digits(number(capacity.get(name))) for name in ("rps_per_gpu", "gpus"))
        by = _FROM.get(str(capacity.get("by")), "")
        made.append(
            ("capacity", f"{rps} rps a GPU at the SLO ({by} on {gpus} {'GPU' if gpus == '1' else 'GPUs'})")
        )
    return made


def _energy(energy: Mapping[str, Any]) -> str:
    def told(name: str) -> str:
        return digits(number(energy.get(name)))

    joules = number(energy.get("joules"))
    parts = [
        f"{told('joules_per_token')} J/token",
        f"{told('joules_per_request')} J/request",
        f"{told('tokens_per_joule')} tokens/J",
        f"{told('watts_mean')} W mean",
    ]
    if number(energy.get("watts_idle")) is not None:
        parts.append(f"{told('watts_idle')} W idle")
    cpu = number(inner(energy, "cpu").get("joules"))
    if cpu is not None and energy.get("gpus"):
        parts.append(f"processors {digits(cpu)} J apart")
    gap_s = number(energy.get("gap_s")) or 0.0
    if gap_s >= 1.0:
        parts.append(f"{digits(gap_s)} s without samples left out")
    source = f" by {energy['source']}" if isinstance(energy.get("source"), str) else ""
    return f"{digits(joules)} J{source}: " + ", ".join(parts)


def _cost(cost: Mapping[str, Any]) -> str:
    def told(name: str) -> str:
        return digits(number(cost.get(name)))

    if number(cost.get("prefill_share")) is None:
        each = f"${told('usd_per_mtok')} a million tokens, in and out alike"
    else:
        each = f"${told('usd_per_mtok_in')} a million tokens in, ${told('usd_per_mtok_out')} out"
    return f"${told('usd')} in all, ${told('usd_per_hour')} an hour, {each}"
