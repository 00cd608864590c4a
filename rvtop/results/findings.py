"""What a run's figures say of their own cause: the ``findings`` of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rvtop.results.part import Part, gaps_of
from rvtop.results.server import seconds_in
from rvtop.results.windows import Window
from rvtop.stats.comb import comb_of, knob, said

#: A verdict that stood for less is said live, and is no finding of the run.
_LEAST_S = 5


def findings(part: Part, topology: str | None) -> list[dict[str, Any]]:
    """Those of ``part``, as ``{kind, text, since_s, figures, knob}``: verdicts first, the longest one of them
    first."""
    return [*_verdicts(part), *_comb(part, topology)]


def _verdicts(part: Part) -> list[dict[str, Any]]:
    """What bound the system, as it was said while the load ran; figures are means over those seconds."""
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for row in _rows(part):
        said = row.get("verdict")
        if isinstance(said, Mapping) and isinstance(said.get("figures"), Mapping):
            seen.setdefault(str(said.get("name")), []).append(row)
    found = []
    for name, rows in sorted(seen.items(), key=lambda item: -len(item[1])):
        if len(rows) < _LEAST_S:
            continue
        last = rows[-1]["verdict"]
        found.append(
            {
                "kind": "verdict",
                "name": name,
                "text": f"bound by {name} for {len(rows)} s: {last.get('text')}; {last.get('why')}",
                "since_s": float(rows[0]["t_s"]),
                "figures": {"seconds": len(rows), **_means([row["verdict"]["figures"] for row in rows])},
                "knob": str(last.get("knob") or ""),
            }
        )
    return found


def _means(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in figures for name in one)
    known = {
        name: [float(one[name]) for one in figures if isinstance(one.get(name), int | float)]
        for name in names
    }
    return {name: fmean(values) for name, values in known.items() if values}


def _rows(part: Part) -> list[Mapping[str, Any]]:
    return seconds_in(part.run.timeline, part.spans)


def _comb(part: Part, topology: str | None) -> list[dict[str, Any]]:
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
    told = [row.get("server_itl_ms") for row in _rows(part)]
    known = [float(gap) for gap in told if isinstance(gap, int | float)]
    return fmean(known) if known else None
