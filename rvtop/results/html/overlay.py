"""Several runs as one HTML page: how they differ first, then their charts over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.results.compare import ALL, Comparison, Row
from rvtop.results.compare_text import about_intervals, difference_text, interval_text, verdict_text
from rvtop.results.html.document import document
from rvtop.results.html.series import (
    Chart,
    Drawn,
    Line,
    Values,
    distributions,
    percentiles,
    step_s,
)
from rvtop.results.html.tables import definitions, parts_table, table, text
from rvtop.results.lines import read_lines
from rvtop.results.rows import check_command, check_second
from rvtop.results.summary import summarise
from rvtop.results.table import NONE, read
from rvtop.text import digits, phase_words, printable, printable_json

#: More lines than colours can't be told apart.
MOST_RUNS = 8


@dataclass(frozen=True, slots=True)
class Run:
    """A run on the page. ``name`` is what its lines are called; ``summary`` is printable."""

    name: str
    folder: Path
    summary: Mapping[str, Any]


def read_run(name: str, folder: Path) -> Run:
    """Sums the run up anew: a summary may be somebody else's. Raises what ``summary.summarise`` does."""
    return Run(name, folder, printable_json(summarise(folder)))


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page before the charts. ``html``: text of others in it is escaped."""

    title: str
    html: str


def overlay_page(
    title: str,
    facts: Sequence[str],
    sections: Sequence[Section],
    runs: Sequence[Run],
    more: Sequence[Chart] = (),
) -> str:
    """The page: ``sections``, the charts of ``more``, then those of ``runs``, each of which has one colour in
    all of them. Raises UserError for more runs than there are colours, TableError for a run that can't be
    read."""
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs on one page: {MOST_RUNS} at most, or colours repeat")
    drawn = [_drawn(run, f"line{number}") for number, run in enumerate(runs)]
    timelines = [read_lines(run.folder / run_files.TIMELINE, [], check_second) for run in runs]
    charts = [*more, *distributions(drawn, {}), *_over_time(drawn, timelines)]
    data = {
        "duration_s": max((float(run.summary["duration_s"]) for run in runs), default=0.0),
        "phases": _phases(runs[0].folder) if runs else [],
        "events": [],
        "charts": [asdict(chart) for chart in charts],
    }
    body = [
        f'<header><h1>{text(title)}</h1><p class="facts">{" · ".join(map(text, facts))}</p></header>',
        *(_section(section.title, section.html) for section in sections),
        _section("Runs", _key(runs)) if runs else "",
        '<section id="charts" aria-label="Charts"><noscript>The charts need scripts; the tables do not.'
        "</noscript></section>",
        _section("All figures", parts_table([(run.name, run.summary) for run in runs], "run"))
        if runs
        else "",
        _section("What the figures mean", definitions()),
    ]
    return document(f"{title} · rvtop", "".join(body), data, "report")


def difference_section(found: Comparison, letter: str = "B") -> Section:
    """B, which is called ``letter``, against A as a table: all that was measured, then each phase, and what
    else is to be known."""
    tables = [_differences(found.parts[name], name, letter) for name in found.names]
    notes = [*([found.refusal] if found.refused else []), *about_intervals(found), *found.notes]
    listed = "".join(f"<li>{text(note)}</li>" for note in notes)
    shown, hidden = tables[0], "".join(tables[1:])
    phases = f"<details><summary>each phase</summary>{hidden}</details>" if hidden else ""
    title = f"{letter} {found.b.label} against A {found.a.label}"
    where = f'<p class="facts">A {text(found.a.where)} · {letter} {text(found.b.where)}</p>'
    return Section(title, f"{where}{shown}<ul>{listed}</ul>{phases}")


def _differences(rows: Sequence[Row], name: str, letter: str) -> str:
    told = [
        (
            row.figure.name + (f" {row.figure.unit}" if row.figure.unit in ("ms", "%", "rps") else ""),
            digits(row.a),
            digits(row.b),
            difference_text(row),
            "--" if row.percent is None else f"{row.percent:+.1f} %",
            interval_text(row),
            verdict_text(row).replace("B ", f"{letter} ", 1),
        )
        for row in rows
        if (row.a, row.b) != (None, None)
    ]
    heads = ("figure", "A", letter, f"{letter} − A", "change", f"interval of {letter} − A", "says")
    caption = "All that was measured" if name == ALL else f"Phase {printable(name)}"
    return f'<div class="whole">{table(heads, told, caption)}</div>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(printable(title))}</h2>{body}</section>"


def _key(runs: Sequence[Run]) -> str:
    """Which colour is which run, in words too."""
    items = []
    for number, run in enumerate(runs):
        about = (run.summary["name"], run.summary["started_at"], str(run.folder))
        items.append(
            f'<li><span class="swatch" style="--ink: var(--line{number})"></span>'
            f"<strong>{text(run.name)}</strong> {', '.join(map(text, about))}</li>"
        )
    return f'<ul class="runs">{"".join(items)}</ul>'


def _drawn(run: Run, role: str) -> Drawn:
    requests = read(run.folder / run_files.REQUESTS, [])
    measured = {part["name"] for part in run.summary["phases"] if not part["warmup"]}
    wanted = [index for index, name in enumerate(requests.phases) if printable(name) in measured]
    return Drawn(run.name, role, requests, np.isin(requests.phase, wanted))


def _over_time(drawn: Sequence[Drawn], timelines: Sequence[Sequence[Mapping[str, Any]]]) -> list[Chart]:
    """TTFT p99 of each second, and what the runs told of each; by seconds from each run's start."""
    ends = [float(one.table.intended.max()) / 1e9 for one in drawn if one.table.intended.size]
    step = step_s(max(ends, default=0.0))
    every = math.ceil(step)
    tails = []
    for one in drawn:
        good = one.table.ok & (one.table.first != NONE)
        begun = one.table.intended[good] / 1e9
        x, (tail,) = percentiles(begun, (one.table.first[good] - one.table.intended[good]) / 1e6, step, (99,))
        tails.append(dict(zip(x, tail, strict=True)))
    about = "99 % of the requests that were meant to be sent in a second had their first token sooner."
    charts = [_joined("TTFT p99", "ms", about, drawn, tails)]
    for title, unit, key, about in (
        ("Load", "rps", "sent_rps", "Requests sent in a second."),
        ("Tokens", "tok/s", "tokens_per_s", "Output tokens a second, as clients received them."),
        ("Requests in flight", "", "in_flight", "Sent and not ended."),
        ("Waiting", "", "waiting", "In the engines' queues."),
    ):
        told = [
            {at: row.get(key) for row in rows if (at := float(round(row["t_s"]))) % every == 0}
            for rows in timelines
        ]
        charts.append(_joined(title, unit, about, drawn, told))
    return [chart for chart in charts if any(v is not None for line in chart.lines for v in line.values)]


def _joined(
    title: str, unit: str, about: str, drawn: Sequence[Drawn], told: Sequence[Mapping[float, float | None]]
) -> Chart:
    """A line for each run over the seconds of all of them."""
    x = sorted({at for one in told for at in one})
    lines = []
    for run, one in zip(drawn, told, strict=True):
        values: Values = [one.get(at) for at in x]
        lines.append(Line(run.name, run.role, values))
    return Chart(title, unit, about, x, lines)


def _phases(folder: Path) -> list[dict[str, Any]]:
    rows = read_lines(folder / run_files.COMMANDS, [], check_command)
    return [
        {"t": row["at_ns"] / 1e9, "name": phase_words(row["name"])} for row in rows if row["cmd"] == "phase"
    ]


def figures_table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """A table of a study, whose first column is never broken."""
    return f'<div class="whole">{table(head, rows, caption)}</div>'


def list_of(lines: Sequence[str]) -> str:
    """Lines as a list; empty where there is none."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>" if lines else ""


def points_chart(
    title: str, unit: str, about: str, x_name: str, points: Sequence[tuple[str, float, float]]
) -> Chart:
    """A point (name, x, y) each, in the colours of the lines; those of one x are told apart by a trifle."""
    xs: list[float] = []
    for _, x, _ in points:
        while x in xs:
            x *= 1.000001
        xs.append(x)
    order = sorted(xs)
    lines = []
    for (name, _, y), own in zip(points, xs, strict=True):
        lines.append(Line(name, "", [y if x == own else None for x in order]))
    return Chart(title, unit, about, order, lines, log=True, points=True, x_name=x_name)
