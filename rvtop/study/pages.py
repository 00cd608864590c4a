"""A showdown, or a sweep, as one HTML page: its table first, then the charts of its runs over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvtop.contract.showdown import COMPARED, HEADS
from rvtop.results.compare import CENSORED
from rvtop.results.html.overlay import (
    MOST_RUNS,
    Run,
    Section,
    figures_table,
    list_of,
    overlay_page,
    points_chart,
    read_run,
)
from rvtop.results.html.quality import quality_html
from rvtop.results.quality import read_quality
from rvtop.study import sweep_rows
from rvtop.study.rows import legend

Rows = Sequence[Mapping[str, Any]]


def showdown_page(name: str, rows: Rows, reference: str, differing: Sequence[str], out: Path) -> str:
    """The page of a showdown in ``out``. Raises what ``read_run`` does."""
    phases = list(dict.fromkeys(phase["name"] for row in rows for phase in row["phases"]))
    tables = [_changes_table(rows, reference, "All that was measured")]
    for phase in phases if len(phases) > 1 else ():
        own = [{**one, "name": row["name"]} for row in rows for one in row["phases"] if one["name"] == phase]
        tables.append(_changes_table(own, reference, f"Phase {phase}"))
    reasons = [f"{row['name']}: {reason}" for row in rows for reason in row["reasons"]]
    lines = [*legend(rows), *_paper(rows), *(f"differs: {line}" for line in differing), *reasons]
    sections = [Section(f"Against {reference}", "".join(tables) + list_of(lines))]
    quality = read_quality(out)
    sections += [Section("Answers", quality_html(quality))] if quality is not None else []
    facts = [f"{len(rows)} topologies", f"reference {reference}"]
    return overlay_page(f"Showdown: {name}", facts, sections, _runs(rows, out))


def sweep_page(name: str, topology: str, rows: Rows, slo: Mapping[str, float], out: Path) -> str:
    """The page of a sweep in ``out``. Raises what ``read_run`` does."""
    keys = sweep_rows.HEADS
    told = [
        (row["name"], *(row["figures"][key] for key in keys), ", ".join(sweep_rows.marks(row, slo)))
        for row in rows
    ]
    table = figures_table((topology, *keys.values(), "SLO"), told, "Combinations")
    reasons = [f"{row['name']}: {reason}" for row in rows for reason in row["reasons"]]
    section = Section("Combinations", table + list_of([sweep_rows.best_line(rows, slo), *reasons]))
    known = [(row, point) for row in rows if (point := sweep_rows.point(row)) is not None]
    chart = points_chart(
        "Tokens/s each against TTFT p99",
        "tok/s",
        "Further left and higher is better. Of each GPU, or of each replica where there is no GPU.",
        "TTFT p99, ms",
        [(row["name"], ttft, tps) for row, (tps, ttft) in known],
    )
    facts = [topology, f"{len(rows)} combinations"]
    return overlay_page(f"Sweep: {name}", facts, [section], _runs(rows, out), [chart] if known else [])


def _paper(rows: Rows) -> list[str]:
    """What the paper reports of the same changes."""
    told = []
    for row in rows:
        changes = row["paper_change_pct"]
        if changes is not None:
            parts = (f"{HEADS[key]} {changes[key]:+.2f} %" for key in COMPARED)
            told.append(f"the paper's {row['name']}: {', '.join(parts)}")
    return told


def _changes_table(rows: Rows, reference: str, caption: str) -> str:
    heads = ["topology"]
    for key, head in HEADS.items():
        heads += [head, "change", "95 %", "says"] if key in COMPARED else [head]
    told = []
    for row in rows:
        cells: list[Any] = [row["name"] + (" (reference)" if row["name"] == reference else "")]
        for key in HEADS:
            cells.append(row["kpm"][key])
            cells += _change_cells(row, key) if key in COMPARED else []
        told.append(cells)
    return figures_table(heads, told, caption)


def _change_cells(row: Mapping[str, Any], key: str) -> list[str]:
    if row["censored"]:
        return [CENSORED, "", ""]
    percent, of = row["change_pct"].get(key), row["interval_pct"].get(key)
    if percent is None:
        return ["", "", ""]
    return [
        f"{percent:+.1f} %",
        "--" if of is None else f"{of[0]:+.1f}..{of[1]:+.1f} %",
        row["verdict"].get(key, ""),
    ]


def _runs(rows: Rows, out: Path) -> list[Run]:
    """The newest run that counts of each row, as many as there are colours."""
    counted = [row for row in rows if row["repeats"]]
    return [read_run(row["name"], out / row["counted"][-1]) for row in counted[:MOST_RUNS]]
