"""``summary.json`` from what a run left in its folder: a pure function of the files.

So a finished run, a run that was killed and a run of last month are all summed up by the same code.
Times are milliseconds unless a name says otherwise; what was never measured is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rvtop.contract import run_files
from rvtop.results import pairs, runlog, warm_up
from rvtop.results.arms import by_arm
from rvtop.results.blocks import Blocks
from rvtop.results.ending import End, end_of_log, heartbeat, weighed
from rvtop.results.findings import findings, saturations
from rvtop.results.lines import LONGEST, open_file, read_lines
from rvtop.results.part import Part, RunFacts, figures, ttft_histogram
from rvtop.results.probes import probes
from rvtop.results.rows import check_command, check_second, known_environment
from rvtop.results.spent import Spent
from rvtop.results.table import Bools, Requests, read
from rvtop.results.tasks import task_figures
from rvtop.results.windows import Window, of_phases
from rvtop.text import printable_json

SCHEMA = 1


def summarise(folder: Path, end: End | None = None) -> dict[str, Any]:
    """The summary of the run in ``folder``. What can't be read of its files is left out, and ``unread`` says
    what that is. ``end``: how it ended, where the caller knows it and the run could not write it.

    Raises TableError when no request can be read, RunFolderError when the folder holds no run.
    """
    notes: list[str] = []
    environment = _environment(folder, notes)
    table = read(folder / run_files.REQUESTS, notes)
    commands = read_lines(folder / run_files.COMMANDS, notes, check_command)
    timeline = read_lines(folder / run_files.TIMELINE, notes, check_second)
    models: list[str] = list(environment["models"] or ())
    models += [name for name in table.models if name not in models]  # of a further target
    beat = heartbeat(folder / run_files.HEARTBEAT)
    end = end or end_of_log(commands, timeline, beat, models)
    windows = _windows(commands, table, timeline, beat)
    if windows:
        windows[-1] = replace(windows[-1], cut=end.by_model)
    notes += _outside(table, windows)
    warm = warm_up.found_in(table, windows, commands)
    excluded = warm_up.is_excluded(environment["flags"] or {})
    if warm is not None and excluded:
        table, windows = warm_up.left_out(table, windows, warm)
    beside = probes(folder, windows, environment["flags"] or {}, notes)
    measured = [w for w in windows if not w.warmup]
    workers = str((environment["flags"] or {}).get("workers", 1))
    spent = Spent(environment, timeline)
    run = RunFacts(table, timeline, _slos(environment["slo"] or {}, commands), workers)

    def part(mask: Bools, spans: list[Window], models: Collection[str]) -> Part:
        lost, cut = (
            sum(n for gone in each for model, n in gone.items() if model in models)
            for each in ([w.lost for w in spans], [w.cut for w in spans])
        )
        unended = {"worker_lost": lost, "unfinished": cut}
        return Part(run, mask, [(w.start_s, w.end_s) for w in spans], unended)

    in_measured = of_phases(table, {w.name for w in measured})
    all_of_it = part(in_measured, measured, models)
    whole = spent.figures(all_of_it)
    blocks = Blocks(all_of_it)

    def phase(w: Window) -> dict[str, Any]:
        one = part(of_phases(table, {w.name}), [w], models)
        if not w.warmup:
            blocks.add(w.name, one)
        return {"name": w.name, "warmup": w.warmup, **spent.figures(one)}

    phases, search = [phase(w) for w in windows], _search(commands)
    end = weighed(end, whole["requests"]["ok"], whole["requests"]["errors"], table.error_texts)
    return {
        "schema": SCHEMA,
        "name": environment["name"],
        "topology": environment["topology"],
        "target": environment["target"],
        "models": models,
        "started_at": environment["started_at"],
        "duration_s": max([w.end_s for w in windows] + _ends(table), default=0.0),
        "end": end.for_summary(),
        **whole,
        "ttft_histogram": ttft_histogram(table, in_measured),
        "prompts_digest": environment["prompts_digest"],
        "unread": notes,
        "find_max": search,
        "capacity": spent.capacity(phases, search),
        "probes": beside,
        "steady_from_s": None if warm is None else warm.until_s,
        "warm_up": None if warm is None else warm.fields(excluded=excluded),
        "phases": phases,
        "by_model": {
            name: figures(one, alone=len(models) == 1)
            for name, one in (
                (name, part(in_measured & _of_model(table, name), measured, [name])) for name in models
            )
        },
        "by_arm": by_arm(run, in_measured, all_of_it.spans, all_of_it.unended),
        "tasks": task_figures(all_of_it),
        "findings": findings(all_of_it, environment["topology"]) + saturations(commands, windows),
        "blocks": blocks.figures(table),
        **pairs.summed_up(folder, environment, {w.name for w in windows if w.warmup}),
    }


def write(folder: Path) -> dict[str, Any]:
    """Sums the run up and writes ``summary.json``; returns the summary. Raises what ``summarise`` does, and
    RunFolderError when it can't be written."""
    summary: dict[str, Any] = printable_json(summarise(folder))  # a folder may be somebody else's
    runlog.write_json(folder / run_files.SUMMARY, summary)
    return summary


def _environment(folder: Path, notes: list[str]) -> dict[str, Any]:
    path = folder / run_files.ENVIRONMENT
    try:
        with open_file(path) as file:
            data = orjson.loads(file.read(LONGEST))
    except FileNotFoundError:
        if not folder.is_dir():
            raise runlog.RunFolderError(f"{folder}: no such folder; give the folder of a run") from None
        inside = sorted(path.parent for path in folder.glob(f"*/{run_files.ENVIRONMENT}"))
        if inside:  # a showdown's, or runs/ itself
            told = f"its folders are runs, {len(inside)} of them: give one, as {inside[0]}"
            raise runlog.RunFolderError(f"{folder}: no run itself; {told}") from None
        raise runlog.RunFolderError(f"{folder}: holds no run ({run_files.ENVIRONMENT} is missing)") from None
    except NotADirectoryError:
        raise runlog.RunFolderError(f"{folder}: not a folder; give the folder of a run") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise runlog.RunFolderError(f"{path}: can't be read: {why}") from error
    if not isinstance(data, dict):
        raise runlog.RunFolderError(f"{path}: not a JSON object")
    return known_environment(data, notes)


def _outside(table: Requests, windows: list[Window]) -> list[str]:
    """Of each phase that has requests but no window: that they are in no figure."""
    known = {window.name for window in windows}
    counts = np.bincount(table.phase, minlength=len(table.phases))
    return [
        f"{run_files.COMMANDS}: doesn't say when phase {name} began; its {count} requests are left out"
        for name, count in zip(table.phases, counts.tolist(), strict=True)
        if count and name not in known
    ]


def _of_model(table: Requests, name: str) -> Bools:
    return np.isin(table.model, [index for index, known in enumerate(table.models) if known == name])


def _ends(table: Requests) -> list[float]:
    last = max(int(table.last.max()), int(table.intended.max())) if table.last.size else 0
    return [last / 1e9]


def _windows(
    commands: list[dict[str, Any]],
    table: Requests,
    timeline: list[dict[str, Any]],
    beat: Mapping[str, Any],
) -> list[Window]:
    """The phases that began, by the command log. One that a kill cut off lasts to the last sign of life."""
    alive = max([float(row["t_s"]) for row in timeline] + [beat.get("t_s", 0.0)] + _ends(table))
    out: list[Window] = []
    for position, entry in enumerate(commands):
        if entry["cmd"] != "phase":
            continue
        start = entry["at_ns"] / 1e9
        rest = commands[position + 1 :]
        follows = _until_next_phase(rest)
        ends = [e["at_ns"] / 1e9 for e in follows if e["cmd"] in ("end", "cut", "stop")]
        if len(follows) < len(rest):
            ends.append(rest[len(follows)]["at_ns"] / 1e9)
        elif not any(e["cmd"] == "stop" for e in follows):
            ends.append(alive)  # the run was killed
        if entry["duration_s"] is not None:
            ends.append(start + entry["duration_s"])
        if entry["burst"]:  # a round lasts as long as its requests do
            rows = of_phases(table, {entry["name"]})
            ends = [float(table.last[rows].max()) / 1e9 if rows.any() else start]
        lost: Counter[str] = Counter()
        for e in follows:
            if e["cmd"] == "worker_lost":
                lost.update(e["by_model"])
        out.append(Window(entry["name"], start, max(start, min(ends)), bool(entry["warmup"]), lost))
    return out


def _slos(first: Mapping[str, Any], commands: list[dict[str, Any]]) -> list[tuple[int, Mapping[str, float]]]:
    """The limits of each SLO of the run, with since when it held."""

    def limits(row: Mapping[str, Any]) -> dict[str, float]:
        known = {figure: row.get(f"{figure}_ms") for figure in ("ttft", "tpot", "e2e")}
        return {figure: limit for figure, limit in known.items() if limit is not None}

    changes = [(int(row["at_ns"]), limits(row)) for row in commands if row["cmd"] == "slo"]
    return [(0, limits(first)), *changes]


def _search(commands: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What a search for the highest rate tried and found (rps None: nothing held, or it was not ``ended``;
    ``capped``: no more was allowed); None if it was none.
    ``limited_by`` of a step that missed: why the client was its limit, None if it was the server."""
    steps = [entry for entry in commands if entry["cmd"] == "step"]
    found = [entry for entry in commands if entry["cmd"] == "found"]
    if not steps and not found:
        return None
    return {
        "ended": bool(found),
        "rps": found[-1]["rps"] if found else None,
        "capped": bool(found and found[-1].get("capped")),
        "slo": found[-1]["slo"] if found else None,
        "curve": [
            {key: step[key] for key in ("rps", "held", "confirms", "figures")}
            | {"limited_by": step.get("limited_by")}  # a run of before this was noted has none
            for step in steps
        ],
    }


def _until_next_phase(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(takewhile(lambda entry: entry["cmd"] != "phase", commands))
