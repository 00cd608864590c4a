"""A run as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from rvtop.contract import run_files
from rvtop.results import summary
from rvtop.results.beside_text import warm_up_line
from rvtop.results.html.document import document
from rvtop.results.html.parts import parts_html
from rvtop.results.html.quality import quality_html
from rvtop.results.html.series import Drawn, distributions, over_time
from rvtop.results.html.tables import (
    arms_table,
    definitions,
    environment_table,
    errors_table,
    figure,
    parts_table,
    probes_table,
    server_table,
    slowest_table,
    spent_table,
    text,
)
from rvtop.results.html.tasks import tasks_html
from rvtop.results.lines import LONGEST, open_file, read_lines
from rvtop.results.quality import quality_of_run
from rvtop.results.rows import check_command, check_second
from rvtop.results.stored import environment_of
from rvtop.results.table import read
from rvtop.text import digits, phase_words, printable, printable_json

#: A long run's marks and events of which the first ones stand on the charts.
_MOST_EVENTS = 200
#: In one word how a run ended that did not end well.
_ENDS = {
    "all_failed": "EVERY REQUEST FAILED",
    "interrupted": "INTERRUPTED",
    "target_lost": "TARGET LOST",
    "client_failed": "CLIENT FAILED",
    "saturated": "STOPPED",
    "cut_off": "CUT OFF",
}


def run_page(folder: Path, summed_up: Mapping[str, Any] | None = None) -> str:
    """The report of the run in ``folder``. ``summed_up``: its summary, printable, where the caller has it.
    Raises what ``summary.summarise`` does."""
    notes: list[str] = []
    # A folder may be somebody else's.
    result = printable_json(summary.summarise(folder)) if summed_up is None else summed_up
    requests = read(folder / run_files.REQUESTS, notes)
    timeline = read_lines(folder / run_files.TIMELINE, notes, check_second)
    environment = environment_of(folder)
    slo = environment.get("slo") if isinstance(environment.get("slo"), Mapping) else {}
    limits = {k: v for k, v in (slo or {}).items() if isinstance(v, int | float) and v > 0}
    commands = read_lines(folder / run_files.COMMANDS, [], check_command)
    begun = [row for row in commands if row["cmd"] == "phase"]
    changed = any(row["cmd"] == "slo" for row in commands)
    limits = {} if changed else limits  # no line is drawn for what held for a part of the run
    phases, moved = result["phases"], _moved(commands)
    measured = [p["name"] for p in phases if not p["warmup"]]
    mask = np.isin(
        requests.phase, [i for i, name in enumerate(requests.phases) if printable(name) in measured]
    )
    if (warm := result.get("warm_up")) and warm["excluded"]:
        mask &= requests.intended >= warm["until_s"] * 1e9
    drawn = {
        "duration_s": result["duration_s"],
        "phases": [{"t": row["at_ns"] / 1e9, "name": phase_words(row["name"])} for row in begun],
        "events": _events(folder),
        "charts": [asdict(c) for c in distributions([Drawn("share", "client", requests, mask)], limits)]
        + [asdict(c) for c in over_time(timeline, requests, limits)],
    }
    models = parts_table(result["by_model"].items(), "model") if len(result["models"]) > 1 else ""
    quality = quality_of_run(folder)
    sections = [
        _headline(result, environment),
        _figures(result, limits, changed),
        '<section id="charts" aria-label="Charts"><noscript>The charts need scripts; the tables below do not.'
        "</noscript></section>",
        _section("Phases", parts_table([(_phase_name(p, moved), p) for p in phases], "phase")),
        _section("Models", models),
        _section("Arms", arms_table(result.get("by_arm") or {})),
        _section("Tasks", tasks_html(result.get("tasks"))),
        _section("Where the TTFT went", parts_html(result["ttft_parts"])),
        _section("Probes", probes_table(result.get("probes"))),
        _section("Server", server_table(result["server"])),
        _section("Energy and money", spent_table(result)),
        _section("Slowest requests", slowest_table(folder)),
        _section("Errors", errors_table(requests)),
        _section("Answers", quality_html(quality) if quality is not None else ""),
        _section("What the figures mean", definitions()),
        _section("Scenario", f'<pre tabindex="0">{escape(_scenario(folder))}</pre>'),
        _section("Environment", environment_table(environment)),
    ]
    return document(f"{result['name'] or folder.name} · rvtop", "".join(sections), drawn, "report")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _headline(result: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """What ran where, and first of all what makes its figures doubtful."""
    where = result["topology"] or result["target"]
    facts = [where, ", ".join(result["models"]), result["started_at"], _duration(result["duration_s"])]
    facts.append(f"rvtop {environment['rvtop']}" if isinstance(environment.get("rvtop"), str) else None)
    chips = []
    if result["end"]["kind"] in _ENDS:
        chips.append((f"✗ {_ENDS[result['end']['kind']]}", result["end"]["text"]))
    if result["client_limited"]:
        chips.append(("! CLIENT-LIMITED", result["client"]["limited_by"]))
    chips += [(found.get("kind"), found.get("text")) for found in result.get("findings") or ()]
    if warm_up := warm_up_line(result.get("warm_up")):
        chips.append(("warm-up", warm_up.removeprefix("warm-up: ")))
    chips += [("! UNREAD", note) for note in result["unread"]]
    return (
        f"<header><h1>{text(result['name'])}</h1>"
        f'<p class="facts">{" · ".join(text(fact) for fact in facts if fact)}</p>'
        + "".join(f'<p class="chip"><strong>{text(kind)}</strong> {text(what)}</p>' for kind, what in chips)
        + "</header>"
    )


def _figures(result: Mapping[str, Any], limits: Mapping[str, float], changed: bool) -> str:
    """The figures that are asked for first."""
    requests = result["requests"]
    errors = ", ".join(f"{kind} {count}" for kind, count in requests["errors"].items())
    slo = "within the SLO" if limits else "no SLO is given"
    slo = "within the SLO, which changed meanwhile" if changed else slo
    tiles: Sequence[tuple[str, str, str]] = (
        ("TTFT p50", f"{_n(result, 'ttft_ms.p50')} ms", f"mean {_n(result, 'ttft_ms.mean')}"),
        ("TTFT p99", f"{_n(result, 'ttft_ms.p99')} ms", _limit(limits.get("ttft_ms"), "SLO")),
        ("ITL p50", f"{_n(result, 'itl_ms.p50')} ms", f"p99 {_n(result, 'itl_ms.p99')}"),
        ("E2E mean", f"{_n(result, 'e2e_ms.mean')} ms", f"p99 {_n(result, 'e2e_ms.p99')}"),
        ("tokens/s", _n(result, "kpm.tps"), f"{digits(result['tokens']['output'])} tokens out"),
        ("goodput", f"{_n(result, 'goodput_rps')} rps", f"{slo}; asked {_n(result, 'rate.requested_rps')}"),
        ("completed", f"{_n(result, 'kpm.completed_pct')} %", f"{requests['ok']} of {requests['planned']}"),
        ("errors", str(sum(requests["errors"].values())), errors or "none"),
    )
    return (
        '<section aria-label="Figures of all that was measured" class="tiles">'
        + "".join(
            f'<div class="tile"><p>{text(name)}</p><p class="big">{text(value)}</p><p>{text(more)}</p></div>'
            for name, value, more in tiles
        )
        + "</section>"
    )


def _n(result: Mapping[str, Any], path: str) -> str:
    return digits(figure(result, path))


def _limit(value: float | None, name: str) -> str:
    return "" if value is None else f"{name} {digits(value)}"


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _phase_name(phase: Mapping[str, Any], moved: Mapping[str, str]) -> str:
    name = phase_words(str(phase["name"]))
    if phase["name"] in moved:
        name += f" at {moved[phase['name']]}"
    return f"{name} (warm-up)" if phase["warmup"] and not name.endswith(", warm-up") else name


def _moved(commands: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The phases that went to another server than the run's first, each with its address."""
    found, url = {}, ""
    for row in commands:
        if row["cmd"] == "target":
            url = printable(str(row.get("url", "")))
        elif row["cmd"] == "phase" and url:
            found[printable(str(row["name"]))] = url
    return found


def _events(folder: Path) -> list[dict[str, Any]]:
    """Marks, warnings and errors, as the event strip showed them."""
    rows = read_lines(folder / run_files.EVENTS, [])
    told = [row for row in rows if row.get("kind") != "phase" and isinstance(row.get("t_s"), int | float)]
    return [
        {"t": row["t_s"], "text": str(row.get("text", "")), "level": str(row.get("level", ""))}
        for row in told[:_MOST_EVENTS]
    ]


def _scenario(folder: Path) -> str:
    try:
        with open_file(folder / run_files.SCENARIO) as file:
            lines = file.read(LONGEST).decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"can't be read: {error.strerror}"
    return "\n".join(printable(line) for line in lines)
