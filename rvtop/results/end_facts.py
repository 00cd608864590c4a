"""What a run that has ended is judged by: its figures, their worth, and a run to compare it with.

Read without NumPy: a screen shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.results.compare import TOO_FEW, Comparison, Figures, Side, compare
from rvtop.results.spent_text import spent_facts
from rvtop.results.stored import figures_of, inner, number, read_summary, side_of, stored_runs
from rvtop.text import printable


@dataclass(frozen=True, slots=True)
class EndFacts:
    """``figures`` by the keys of ``compare.FIGURES``. ``trust`` says what they can be trusted for, the worst
    first; ``doubts`` of it are at its beginning. ``other`` is the newest run of the same scenario that did
    the same work; ``change`` against it. ``why``: what the summary's findings say of its cause. ``unread``:
    why there are no figures."""

    figures: Figures = field(default_factory=dict)
    requests: float | None = None
    duration_s: float | None = None
    asked_rps: float | None = None
    chunks: bool = False
    doubts: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    side: Side | None = None
    other: Side | None = None
    change: Comparison | None = None
    has_scenario: bool = False
    spent: tuple[tuple[str, str], ...] = ()  # energy and money, as ``spent_facts`` tells them
    unread: str = ""
    why: tuple[str, ...] = ()


def end_facts(folder: Path, runs: Path) -> EndFacts:
    """Reads them; ``runs`` holds the runs that could be compared with. Of a run without a summary there is
    only why."""
    try:
        summary = read_summary(folder)
    except UserError as error:
        return EndFacts(unread=str(error))
    side = side_of(folder, summary)
    found = _other(side, str(summary.get("name") or ""), runs)
    return EndFacts(
        figures=figures_of(summary),
        requests=number(inner(summary, "requests").get("planned")),
        duration_s=number(summary.get("duration_s")),
        asked_rps=number(inner(summary, "rate").get("requested_rps")),
        chunks=side.chunks,
        doubts=(*side.doubts, *(f"{fault}: no baseline" for fault in side.faults)),
        trust=tuple(_trust(summary, found)),
        why=tuple(_why(summary)),
        side=side,
        other=found.a if found is not None else None,
        change=found,
        spent=tuple(spent_facts(summary)),
        has_scenario=(folder / run_files.SCENARIO).is_file(),
    )


def _other(side: Side, name: str, runs: Path) -> Comparison | None:
    """The newest other run of the scenario ``name`` that did the same work, as the reference."""
    here = Path(side.where).resolve()
    for row in stored_runs(runs):
        if row.name != name or Path(row.folder).resolve() == here:
            continue
        try:
            found = compare(side_of(Path(row.folder), read_summary(Path(row.folder))), side)
        except UserError:
            continue
        if not found.refused:
            return found
    return None


def _why(summary: Mapping[str, Any]) -> Iterator[str]:
    found = summary.get("findings")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, Mapping):
            yield "; ".join(printable(str(one[key])) for key in ("text", "knob") if one.get(key))


def _trust(summary: Mapping[str, Any], found: Comparison | None) -> list[str]:
    lag = number(inner(summary, "schedule_lag_ms").get("p99"))
    late = "" if lag is None else f" (lag p99 {lag:.3g} ms)"
    told = [] if summary.get("client_limited") else [f"client ok{late}"]
    unread = summary.get("unread")
    told += [f"{len(unread)} files damaged"] if isinstance(unread, list) and unread else []
    if found is None or not found.has_intervals:
        return [*told, "one run: no interval" if found is None else f"{TOO_FEW}: no interval"]
    return [*told, f"changes: {found.level:g} % intervals"]
