"""The rows of a sweep: figures of each combination, what holds the SLO, and which no other one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rvtop.results.stored import inner, number
from rvtop.study.rows import Result, sessions_of
from rvtop.text import printable

#: The figures of a row, and the heads of their columns.
HEADS = {
    "tps_each": "tok/s each",
    "tps": "tokens/s",
    "ttft_p99_ms": "TTFT p99",
    "itl_p99_ms": "ITL p99",
    "e2e_p99_ms": "E2E p99",
    "goodput_rps": "goodput",
    "completed_pct": "completed %",
}
#: Below this a request that failed may be what made the rest fast.
_LEAST_COMPLETED = 99.0
#: Tokens/s that differ by less are the same: a load that is served whole gives all of them what it asked for.
_NEAR = 0.01
_WIDTH, _MOST_NAME = 13, 60


def rows(
    named: Sequence[tuple[str, Mapping[str, str]]], results: Sequence[Result], slo: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One for each combination: means and ranges over the repeats that count.

    ``held``: in every repeat the p99 of what the SLO limits is within it, 99 % were completed and no
    threshold was missed; None without figures. ``pareto``: no other has more tokens/s each and a lower TTFT
    p99. ``best``: of those that hold the SLO the one with the most tokens/s each; of several within 1 % of
    that the one with the lowest TTFT p99.
    """
    made = [_row(name, values, results, slo) for name, values in named]
    for row in made:
        row["pareto"] = _is_pareto(row, made)
        row["best"] = False
    held = [row for row in made if row["held"] and row["figures"]["tps_each"] is not None]
    if held and slo:
        most = max(float(row["figures"]["tps_each"]) for row in held)
        near = [row for row in held if row["figures"]["tps_each"] >= (1 - _NEAR) * most]
        min(near, key=lambda row: float(row["figures"]["ttft_p99_ms"] or math.inf))["best"] = True
    return made


def table(found: Sequence[Mapping[str, Any]], slo: Mapping[str, float]) -> list[str]:
    """The rows as lines; the best one, and what can't be said, below them."""
    name = min(_MOST_NAME, max(len(row["name"]) for row in found)) + 2
    lines = [" " * name + "".join(f"{head:>{_WIDTH}}" for head in HEADS.values()) + "  SLO"]
    for row in found:
        cells = "".join(f"{_cell(row['figures'][key]):>{_WIDTH}}" for key in HEADS)
        lines.append(f"{printable(row['name'])[: name - 2]:<{name}}{cells}  {' '.join(marks(row, slo))}")
        if row["repeats"] > 1:
            ranges = (row["range"][key] for key in HEADS)
            lines.append(
                f"{'  min..max':<{name}}"
                + "".join(
                    f"{'--' if one is None else f'{_cell(one[0])}..{_cell(one[1])}':>{_WIDTH}}"
                    for one in ranges
                )
            )
        lines += [f"  {printable(reason)}" for reason in row["reasons"]]
    each = next((row["each"] for row in found if row["each"]), "replica")
    lines.append(
        f"tok/s each: of each {each}; times in ms; front: no other has more of them and a lower TTFT p99"
    )
    return [*lines, best_line(found, slo)]


def marks(row: Mapping[str, Any], slo: Mapping[str, float]) -> list[str]:
    """Whether it holds the SLO, and whether it is the best or one of the front."""
    held = "--" if row["held"] is None or not slo else "held" if row["held"] else "missed"
    return [held, *(["best"] if row["best"] else ["front"] if row["pareto"] else [])]


def best_line(found: Sequence[Mapping[str, Any]], slo: Mapping[str, float]) -> str:
    """Which combination is the best, or why none is."""
    limits = ", ".join(f"{key.removesuffix('_ms').upper()} {limit:g} ms" for key, limit in slo.items())
    if not slo:
        return "best: the scenario has no slo, so none is named (slo: {ttft_ms: 200})"
    best = next((row for row in found if row["best"]), None)
    if best is None:
        return f"best: none holds the SLO ({limits} at p99, {_LEAST_COMPLETED:g} % completed)"
    each, p99 = (_cell(best["figures"][key]) for key in ("tps_each", "ttft_p99_ms"))
    name = printable(best["name"])
    return f"best under the SLO ({limits} at p99): {name}: {each} tok/s each, TTFT p99 {p99} ms"


def _row(
    name: str, values: Mapping[str, str], results: Sequence[Result], slo: Mapping[str, float]
) -> dict[str, Any]:
    counted = [result for result in results if result.name == name and result.counts]
    told = [_figures(result) for result in counted]
    known = {key: [value for one in told if (value := one[key]) is not None] for key in HEADS}
    return {
        **sessions_of(name, results),
        "values": dict(values),
        "each": next((_each(result)[1] for result in counted), ""),
        "figures": {key: fmean(of) if of else None for key, of in known.items()},
        "range": {key: [min(of), max(of)] if of else None for key, of in known.items()},
        "held": all(_held(result, slo) for result in counted) if counted else None,
    }


def _each(result: Result) -> tuple[int, str]:
    """Over how many GPUs, or replicas where there is no GPU, tokens are shared."""
    devices = result.knobs.get("devices")
    if isinstance(devices, int) and devices:
        return devices, "GPU"
    engines = result.knobs.get("engines")
    return (engines if isinstance(engines, int) and engines else 1), "replica"


def _figures(result: Result) -> dict[str, float | None]:
    summary: Mapping[str, Any] = result.summary or {}
    kpm = inner(summary, "kpm")
    tps = number(kpm.get("tps"))
    return {
        "tps_each": None if tps is None else tps / _each(result)[0],
        "tps": tps,
        **{f"{key}_p99_ms": number(inner(summary, f"{key}_ms").get("p99")) for key in ("ttft", "itl", "e2e")},
        "goodput_rps": number(summary.get("goodput_rps")),
        "completed_pct": number(kpm.get("completed_pct")),
    }


def _held(result: Result, slo: Mapping[str, float]) -> bool:
    summary: Mapping[str, Any] = result.summary or {}
    completed = number(inner(summary, "kpm").get("completed_pct"))
    if result.exit_code or completed is None or completed < _LEAST_COMPLETED:
        return False
    values = {key: number(inner(summary, key).get("p99")) for key in slo}
    return all(value is not None and value <= slo[key] for key, value in values.items())


def _is_pareto(row: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no other is at least as good in both and better in one."""
    mine = point(row)
    if mine is None:
        return False
    others = [other for one in found if one is not row and (other := point(one)) is not None]
    return not any(tps >= mine[0] and ttft <= mine[1] and (tps, ttft) != mine for tps, ttft in others)


def point(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """(tokens/s each, TTFT p99 in ms)."""
    tps, ttft = row["figures"]["tps_each"], row["figures"]["ttft_p99_ms"]
    return None if tps is None or ttft is None else (tps, ttft)


def _cell(value: float | None) -> str:
    return "--" if value is None else f"{value:.4g}"
