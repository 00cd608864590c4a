"""The ``cost`` and ``capacity`` blocks of a summary: money from prices, GPUs, time and energy.

``usd`` in the names stands for the currency of the prices, whichever that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.results.energy import Powers, over
from rvtop.stats.prices import Prices, cost, per_million, prefill_share, split


def prices_of(told: Any) -> Prices:
    """The prices in ``environment.json``; what is not as a session writes it counts as not set."""
    named = told if isinstance(told, dict) else {}
    known = {}
    for key in Prices.__slots__:
        value = named.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12:
            known[key] = float(value)
    return Prices(**known)


def powers_of(prices: Prices) -> Powers:
    """What the settings say of a GPU's power."""
    return Powers(prices.gpu_power_w, prices.gpu_idle_w)


def cost_block(
    prices: Prices,
    gpus: float | None,
    seconds: float,
    energy: Mapping[str, Any] | None,
    figures: Mapping[str, Any],
) -> dict[str, Any] | None:
    """What a part of a run cost, whose ``figures`` are known; None without prices.

    Energy is that of the GPUs and, where they tell, of this machine's processors. The cost is split between
    input and output tokens by the times that the engines tell for prefill and decode: without these both are
    None, and ``usd_per_mtok`` (all tokens alike) remains.
    """
    if not prices.any:
        return None
    found = cost(prices, gpus, seconds, joules_of(energy))
    tokens, server = figures["tokens"], figures["server"]
    share = prefill_share(server.get("prefill_time_ms_mean"), server.get("decode_time_ms_mean"))
    of_input, of_output = split(found.whole, share)
    both = None if tokens["input"] is None or not tokens["output"] else tokens["input"] + tokens["output"]
    return {
        "usd": found.whole,
        "usd_gpus": found.gpus,
        "usd_energy": found.energy,
        "usd_per_hour": over(None if found.whole is None else 3600 * found.whole, seconds),
        "usd_per_mtok": per_million(found.whole, both),
        "usd_per_mtok_in": per_million(of_input, tokens["input"]),
        "usd_per_mtok_out": per_million(of_output, tokens["output"]),
        "usd_per_request": over(found.whole, figures["requests"]["ok"]),
        "prefill_share": share,
        "gpus": gpus,
    }


def joules_of(energy: Mapping[str, Any] | None) -> float | None:
    """The energy that is paid for: of the GPUs and the processors; None where a GPU does not tell."""
    if energy is None or energy["joules"] is None:
        return None
    cpu = energy["cpu"]
    joules: float = energy["joules"]
    return joules + (cpu["joules"] if cpu is not None and energy["gpus"] else 0.0)


def capacity(
    gpus: int | None, goodput: Mapping[str, float | None], search: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Requests a second that a GPU holds at the SLO: of a search what it found, else the highest
    ``goodput`` of a phase (by name); None without an SLO, or where the GPUs are not known or none."""
    if not gpus:
        return None
    if search is not None:
        rps = search["rps"]
        return None if rps is None else {"rps_per_gpu": rps / gpus, "gpus": gpus, "by": "find_max"}
    known = {name: rps for name, rps in goodput.items() if rps is not None}
    if not known:
        return None
    best = max(known, key=lambda name: known[name])
    return {"rps_per_gpu": known[best] / gpus, "gpus": gpus, "by": "goodput", "phase": best}
