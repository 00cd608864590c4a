"""``summary.json`` from what a run left in its folder (DESIGN §4.4): a pure function of the files.

So a finished run, a run that was killed and a run of last month are all summed up by the same code.
Times are milliseconds unless a name says otherwise; what was never measured is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rvtop.contract import run_files
from rvtop.results import runlog
from rvtop.results.client import client_summary
from rvtop.results.ending import End, end_of_log, heartbeat, weighed
from rvtop.results.lines import LONGEST, open_file, read_lines
from rvtop.results.rows import check_command, check_second, known_environment
from rvtop.results.server import server_summary
from rvtop.results.table import NONE, Bools, Requests, read
from rvtop.stats.histogram import QUANTILES, Histogram
from rvtop.stats.limits import client_limited
from rvtop.stats.slo import meets
from rvtop.text import printable_json

SCHEMA = 1
Dist = dict[str, float | int | None]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Window:
    """When a phase's arrivals ran, seconds from the run's start."""

    name: str
    start_s: float
    end_s: float
    warmup: bool
    lost: Mapping[str, int]  # requests that went down with a worker, by model
    cut: Mapping[str, int] = field(default_factory=dict)  # that have no line: the run ended before, by model


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
    models: list[str] = list(table.models) if environment["models"] is None else environment["models"]
    beat = heartbeat(folder / run_files.HEARTBEAT)
    end = end or end_of_log(commands, timeline, beat, models)
    windows = _windows(commands, table, timeline, beat)
    if windows:
        windows[-1] = replace(windows[-1], cut=end.by_model)
    notes += _outside(table, windows)
    measured = [w for w in windows if not w.warmup]
    slo = environment["slo"] or {}
    workers = str((environment["flags"] or {}).get("workers", 1))

    def part(mask: Bools, spans: list[_Window], models: Collection[str]) -> dict[str, Any]:
        lost, cut = (
            sum(n for gone in each for model, n in gone.items() if model in models)
            for each in ([w.lost for w in spans], [w.cut for w in spans])
        )
        unended = {"worker_lost": lost, "unfinished": cut}
        return _part(table, mask, spans, unended, slo, timeline, workers)

    in_measured = _of_phases(table, {w.name for w in measured})
    whole = part(in_measured, measured, models)
    end = weighed(end, whole["requests"]["ok"], whole["requests"]["errors"], table.words)
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
        "prompts_digest": environment["prompts_digest"],
        "unread": notes,
        "find_max": _search(commands),
        "phases": [
            {"name": w.name, "warmup": w.warmup, **part(_of_phases(table, {w.name}), [w], models)}
            for w in windows
        ],
        "by_model": {name: part(in_measured & _of_model(table, name), measured, [name]) for name in models},
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
        raise runlog.RunFolderError(f"{folder}: holds no run ({run_files.ENVIRONMENT} is missing)") from None
    except NotADirectoryError:
        raise runlog.RunFolderError(f"{folder}: not a folder; give the folder of a run") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise runlog.RunFolderError(f"{path}: can't be read: {why}") from error
    if not isinstance(data, dict):
        raise runlog.RunFolderError(f"{path}: not a JSON object")
    return known_environment(data, notes)


def _outside(table: Requests, windows: list[_Window]) -> list[str]:
    """Of each phase that has requests but no window: that they are in no figure."""
    known = {window.name for window in windows}
    counts = np.bincount(table.phase, minlength=len(table.phases))
    return [
        f"{run_files.COMMANDS}: doesn't say when phase {name} began; its {count} requests are left out"
        for name, count in zip(table.phases, counts.tolist(), strict=True)
        if count and name not in known
    ]


def _of_phases(table: Requests, names: set[str]) -> Bools:
    wanted = [index for index, name in enumerate(table.phases) if name in names]
    return np.isin(table.phase, wanted)


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
) -> list[_Window]:
    """The phases that began, by the command log. One that a kill cut off lasts to the last sign of life."""
    alive = max([float(row["t_s"]) for row in timeline] + [beat.get("t_s", 0.0)] + _ends(table))
    out: list[_Window] = []
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
            rows = _of_phases(table, {entry["name"]})
            ends = [float(table.last[rows].max()) / 1e9 if rows.any() else start]
        lost: Counter[str] = Counter()
        for e in follows:
            if e["cmd"] == "worker_lost":
                lost.update(e["by_model"])
        out.append(_Window(entry["name"], start, max(start, min(ends)), bool(entry["warmup"]), lost))
    return out


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


def _part(
    table: Requests,
    mask: Bools,
    spans: list[_Window],
    unended: Mapping[str, int],
    slo: Mapping[str, float | None],
    timeline: list[dict[str, Any]],
    workers: str,
) -> dict[str, Any]:
    """Every figure over the requests in ``mask``, whose arrivals ran in ``spans``, and over those that were
    sent and have no line: ``unended`` has their number by error class.
    ``workers`` is the run's ``--workers``."""
    good = mask & table.ok & (table.first != NONE)
    sent = mask & (table.sent != NONE)
    span_s = sum(w.end_s - w.start_s for w in spans)
    no_line = sum(unended.values())
    planned = int(mask.sum()) + no_line
    errors = {
        name: int((mask & (table.error == index)).sum())
        for index, name in enumerate(table.errors)
        if name and (mask & (table.error == index)).any()
    }
    for kind, count in unended.items():
        if count:
            errors[kind] = errors.get(kind, 0) + count
    ok, on_the_wire = int(good.sum()), int(sent.sum()) + no_line
    intended, first, last = table.intended[good], table.first[good], table.last[good]
    tokens = table.output_tokens[good]
    ttft = (first - intended) / 1e6
    e2e = (last - intended) / 1e6
    several = tokens > 1
    tpot = (e2e[several] - ttft[several]) / (tokens[several] - 1)
    lag = (table.sent[sent] - table.intended[sent]) / 1e6
    ttft_dist, lag_dist = _dist(ttft), _dist(lag)
    seconds = [(w.start_s, w.end_s) for w in spans]
    client = client_summary(timeline, seconds)
    limited = client_limited(
        lag_dist["p99"], ttft_dist["p50"], errors, client["loop_lag_p99_ms"], client["worker_cpu"], workers
    )
    started = int(table.intended[mask].min()) if mask.any() else None
    ended = int(last.max()) if ok else None
    total_s = (ended - started) / 1e9 if started is not None and ended is not None else None
    # A light load's last request ends before its phase does, and an overload's long after: over the longer of
    # the two, never more is completed than was sent.
    elapsed_s = max(span_s, total_s or 0.0)
    output = int(tokens.sum())
    return {
        "requests": {
            "planned": planned,
            "sent": on_the_wire,
            "ok": ok,
            "errors": errors,
            "dropped": errors.get("dropped", 0),
        },
        "rate": {
            "requested_rps": _over(planned, span_s),
            "sent_rps": _over(on_the_wire, span_s),
            "completed_rps": _over(ok, elapsed_s) if ok else None,
        },
        "client_limited": limited is not None,
        "client": {"limited_by": limited, **client},
        "kpm": {
            "ttft_ms": ttft_dist["mean"],
            "latency_avg_ms": _mean(e2e),
            "latency_total_s": total_s,
            "tps": _over(output, total_s),
            "completed_pct": 100.0 * ok / planned if planned else None,
        },
        "ttft_ms": ttft_dist,
        "ttft_service_ms": _dist((first - table.sent[good]) / 1e6),
        "itl_ms": _itl(table, mask, good),
        "tpot_ms": _dist(tpot),
        "e2e_ms": _dist(e2e),
        "schedule_lag_ms": lag_dist,
        "tokens": {
            "input": _known_sum(table.prompt_tokens[good]),
            "output": output if ok else None,
            "cached": _known_sum(table.cached_tokens[good]),
            "source": _source(table.from_usage[good]),
        },
        "goodput_rps": _goodput(table, good, slo, elapsed_s),
        "server": server_summary(timeline, seconds),
    }


def _dist(values: Floats) -> Dist:
    """Mean, percentiles (linear interpolation, as NumPy's default), extremes and count; None when empty."""
    if values.size == 0:
        return {"mean": None, **dict.fromkeys(QUANTILES), "min": None, "max": None, "count": 0}
    points = np.percentile(values, list(QUANTILES.values()))
    return {
        "mean": float(values.mean()),
        **{name: float(point) for name, point in zip(QUANTILES, points, strict=True)},
        "min": float(values.min()),
        "max": float(values.max()),
        "count": int(values.size),
    }


def _itl(table: Requests, mask: Bools, good: Bools) -> Dist:
    """Gaps between token chunks: the mean is exact (sum of spans over number of gaps), the rest bucketed."""
    counts: dict[int, int] = {}
    phases, models = set(table.phase[mask].tolist()), set(table.model[mask].tolist())
    for (phase, model), here in table.gaps.items():
        if phase in phases and model in models:
            for bucket in np.flatnonzero(here):
                counts[int(bucket)] = counts.get(int(bucket), 0) + int(here[bucket])
    histogram = Histogram.from_sparse(counts.items())
    if not histogram.count:
        return _dist(np.empty(0))
    span = float((table.last[good] - table.first[good]).sum())
    gaps = int(np.maximum(table.chunks[good] - 1, 0).sum())
    return {
        "mean": span / gaps / 1e6 if gaps else None,
        **{name: histogram.percentile(q) / 1e6 for name, q in QUANTILES.items()},
        "min": histogram.min_ns / 1e6,
        "max": histogram.max_ns / 1e6,
        "count": histogram.count,
    }


def _goodput(table: Requests, good: Bools, slo: Mapping[str, float | None], elapsed_s: float) -> float | None:
    """Ok requests a second that meet every limit of the SLO; None without one."""
    limits = {key.removesuffix("_ms"): value for key, value in slo.items() if value is not None}
    if not limits:
        return None
    ttft = (table.first[good] - table.intended[good]) / 1e6
    e2e = (table.last[good] - table.intended[good]) / 1e6
    return _over(int(meets(ttft, e2e, table.output_tokens[good], limits).sum()), elapsed_s)


def _over(amount: float, seconds: float | None) -> float | None:
    return amount / seconds if seconds else None


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if values.size else None


def _known_sum(values: npt.NDArray[np.int64]) -> int | None:
    known = values[values != NONE]
    return int(known.sum()) if known.size else None


def _source(from_usage: Bools) -> str | None:
    if from_usage.size == 0:
        return None
    return "usage" if from_usage.all() else "chunks" if not from_usage.any() else "mixed"
