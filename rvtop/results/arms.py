"""The figures of each arm: of several models behind one name, which of them answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.contract.arms import NO_ARM
from rvtop.results.part import Part, RunFacts, figures
from rvtop.results.table import NONE, Bools
from rvtop.text import digits


def by_arm(
    run: RunFacts, mask: Bools, spans: Sequence[tuple[float, float]], unended: Mapping[str, int]
) -> dict[str, Any]:
    """The figures of the requests in ``mask`` by arm, with its ``share`` of them; empty where no response
    named an arm. What ended without one is in :data:`NO_ARM`, with the ``unended``, so that all add up to
    the whole."""
    table = run.table
    if not table.arms:
        return {}
    masks = {name: mask & (table.arm == number) for number, name in enumerate(table.arms)}
    unnamed, missing = mask & (table.arm == NONE), {kind: n for kind, n in unended.items() if n}
    parts = {name: Part(run, those, spans, {}, whole=False) for name, those in sorted(masks.items())}
    if unnamed.any() or missing:
        parts[NO_ARM] = Part(run, unnamed, spans, missing, whole=False)
    total = sum(part.planned_count for part in parts.values())
    return {
        name: {"share": part.planned_count / total if total else None, **figures(part, alone=False)}
        for name, part in parts.items()
    }


def arm_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line an arm of a summary; where there are none, one a model of several."""
    what, arms = "arm", summary.get("by_arm") or {}
    asked = {name: one for name, one in (summary.get("by_model") or {}).items() if one["requests"]["planned"]}
    if not arms and len(asked) > 1:
        total = sum(one["requests"]["planned"] for one in asked.values())
        shares = {name: one["requests"]["planned"] / total for name, one in asked.items()}
        what, arms = "model", {name: {**one, "share": shares[name]} for name, one in asked.items()}
    lines = []
    for name, arm in arms.items():
        requests, ttft, kpm = arm["requests"], arm["ttft_ms"], arm["kpm"]
        failed = sum(requests["errors"].values())
        goodput = "" if arm["goodput_rps"] is None else f", goodput {digits(arm['goodput_rps'])} rps"
        share = "--" if arm["share"] is None else f"{100 * arm['share']:.1f} %"
        lines.append(
            f"{what} {name}: {share} of the requests ({requests['planned']}), {failed} errors; "
            f"TTFT p50 {digits(ttft['p50'])} p99 {digits(ttft['p99'])} ms, "
            f"latency {digits(kpm['latency_avg_ms'])} ms, {digits(kpm['tps'])} tokens/s{goodput}"
        )
    return lines
