"""What a run's figures say of their own cause: the ``findings`` of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

from rvtop.results.part import Part, gaps_of
from rvtop.stats.comb import comb_of, knob, said


def findings(part: Part, topology: str | None) -> list[dict[str, Any]]:
    """Those of ``part``, as ``{kind, text, since_s, figures, knob}``."""
    comb = comb_of(gaps_of(part).distribution(), _engine_gap_ms(part))
    if comb is None:
        return []
    figures = {"period_ms": comb.period_ms, "tokens_a_lump": comb.lump, "gaps_near_0": comb.together}
    since_s = min((start for start, _ in part.spans), default=0.0)
    return [
        {
            "kind": "comb",
            "text": "; ".join(said(comb)),
            "since_s": since_s,
            "figures": figures,
            "knob": knob(comb, topology),
        }
    ]


class Window(Protocol):
    """A phase that began."""

    @property
    def name(self) -> str: ...
    @property
    def warmup(self) -> bool: ...


def saturations(commands: Sequence[Mapping[str, Any]], windows: Sequence[Window]) -> list[dict[str, Any]]:
    """Where load was above what the server could answer, as the session saw it while it ran; not of
    warm-ups. What bounds the server is another finding's to say: ``knob`` is empty."""
    warm = {window.name for window in windows if window.warmup}
    return [
        {
            "kind": "saturation",
            "text": " ".join(("over saturation", row["text"], *_in_phase(row))),
            "since_s": row["since_s"],
            "figures": row["figures"],
            "knob": "",
        }
        for row in commands
        if row["cmd"] == "saturated" and row.get("phase") not in warm
    ]


def _in_phase(row: Mapping[str, Any]) -> list[str]:
    return [f"(phase {row['phase']})"] if row.get("phase") else []


def _engine_gap_ms(part: Part) -> float | None:
    """The mean gap between tokens by the engine's own figures."""
    told = [
        row.get("server_itl_ms")
        for row in part.run.timeline
        if any(start <= row["t_s"] <= end for start, end in part.spans)
    ]
    known = [float(gap) for gap in told if isinstance(gap, int | float)]
    return fmean(known) if known else None
