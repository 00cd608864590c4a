"""Says in words what a scenario will do (``rvtop scenario explain``)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from rvtop.scenario.planned import chart
from rvtop.scenario.schema import Phase, Rate, Scenario
from rvtop.scenario.thresholds import LOWER
from rvtop.scenario.units import human_duration
from rvtop.scenario.words import output_words, sends_words


def explain(scenario: Scenario) -> str:
    """Several lines of plain text: load, phases as a table, how much in all, what decides success."""
    by_share = isinstance(scenario.models, Mapping)
    models = 1 if by_share else max(1, len(scenario.models))
    named = _models(scenario.models) if scenario.models else "the target's only model"
    turns = " in turn" if models > 1 else ""
    lines = [
        f"{scenario.name}  (seed {scenario.seed})",
        f"  to       {named}{turns}",
        f"  sends    {sends_words(scenario.workload)}",
        "",
    ]
    lines += _table([_HEAD, *_rows(scenario, models)])
    if drawn := chart([phase.timed_plan() for phase in scenario.phases], _CHART):
        lines += ["", *(f"  {row}" for row in drawn)]
    marks = [(phase.name, mark) for phase in scenario.phases for mark in phase.marks]
    lines += [f"  mark     {name} at {human_duration(mark.at_s)}: {mark.note}" for name, mark in marks]
    lines += ["", f"  in all   {_total(scenario, models)}"]
    if scenario.slo is not None:
        limits = [f"{key} ≤ {value:g}" for key, value in scenario.slo.model_dump(exclude_none=True).items()]
        if limits:
            lines.append(f"  good     a request with {' and '.join(limits)} (goodput)")
    if scenario.stop_when_saturated:
        lines.append("  ends     where load is above what the server can answer; exit code 1")
    if scenario.thresholds:
        wanted = [
            f"{name.removeprefix('min_')} {'≥' if name in LOWER else '≤'} {limit:g}"
            for name, limit in scenario.thresholds.items()
        ]
        lines.append(f"  passes   with {', '.join(wanted)}; otherwise exit code 1")
    return "\n".join(line.rstrip() for line in lines)


def _models(models: Collection[str]) -> str:
    if not isinstance(models, Mapping):
        return ", ".join(models)
    total = sum(models.values())
    return ", ".join(f"{name} {100 * share / total:.3g} %" for name, share in models.items())


_CHART = 64  # columns; with the highest rate behind it, it fits into 80
_HEAD = ("phase", "begins", "lasts", "load", "requests", "notes")


def _rows(scenario: Scenario, models: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    begins: float | None = 0.0
    for phase in scenario.phases:
        if phase.begins_s is not None:
            begins = max(begins or 0.0, phase.begins_s)
        lasts = human_duration(phase.lasts_s) if phase.lasts_s is not None else "until all end"
        requests = phase.expected_requests(models)
        about = "" if phase.exact else "~"
        rows.append(
            (
                phase.name,
                human_duration(begins) if begins is not None else "then",
                lasts,
                _load(phase),
                "--" if math.isnan(requests) else f"{about}{requests:.0f}",
                _notes(phase, models),
            )
        )
        # Rounds end when they end, so what follows them has no known start.
        begins = None if begins is None or phase.lasts_s is None else begins + phase.lasts_s
    return rows


def _load(phase: Phase) -> str:
    if phase.rounds is not None:
        sizes = ", ".join(str(size) for size in phase.rounds.sizes)
        times = f", {phase.rounds.repeat} times each" if phase.rounds.repeat > 1 else ""
        return f"{sizes} at once{times}"
    if phase.concurrency is not None:
        return f"{phase.concurrency} in flight, closed loop"
    if phase.trace is not None:
        return "the trace" + (f", {phase.trace.speed:g} times as fast" if phase.trace.speed != 1 else "")
    if phase.rate is None:
        return ""
    rate = _rate(phase.rate)
    shape = f" (burstiness {phase.burstiness:g})" if phase.burstiness is not None else ""
    return f"{rate} {phase.arrivals}{shape}"


def _rate(rate: Rate) -> str:
    if rate.shape == "spike":
        begins, lasts = human_duration(rate.peak_at_s or 0.0), human_duration(rate.peak_for_s or 0.0)
        return f"{rate.start:g} rps, {rate.end:g} rps for {lasts} from {begins} on,"
    if rate.constant:
        return f"{rate.start:g} rps"
    ramp = f"{rate.start:g} → {rate.end:g} rps"
    if rate.shape == "step":
        return f"{ramp} in {rate.holds} steps"
    return f"{ramp} {rate.shape}" if rate.shape != "linear" else ramp


def _notes(phase: Phase, models: int) -> str:
    notes = []
    if phase.offset_s:
        notes.append(f"from {human_duration(phase.offset_s)} of its clock on")
    if phase.changes:
        notes.append(f"{len(phase.changes)} changes of the rate")
    if phase.warmup:
        notes.append("warm-up, not measured")
    if phase.reset_prefix_cache:
        notes.append("begins with an empty prefix cache")
    if phase.profile:
        notes.append("the server's profiler runs")
    if phase.max_in_flight is not None:
        notes.append(f"drops above {phase.max_in_flight} in flight")
    if phase.drain_s is not None:
        notes.append(f"drains ≤ {human_duration(phase.drain_s)}")
    if phase.cancel is not None:
        after = human_duration(phase.cancel.after_s)
        notes.append(f"{100 * phase.cancel.share:g} % given up by the client after {after}")
    if phase.rounds is not None and 1 in phase.rounds.sizes and models > 1:
        notes.append("a round of 1 asks each model once")
    return ", ".join(notes)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  " + "   ".join(row) for row in padded]


def _total(scenario: Scenario, models: int) -> str:
    requests = sum(phase.expected_requests(models) for phase in scenario.phases)
    exact = all(phase.exact for phase in scenario.phases)
    drains = sum(phase.drain_s or 0.0 for phase in scenario.phases)
    timed = human_duration(scenario.duration_s) if scenario.duration_s else ""
    rounds = "the rounds" if any(phase.rounds is not None for phase in scenario.phases) else ""
    time = " and ".join(part for part in (timed, rounds) if part)
    if math.isnan(requests):
        return "as many requests as the run brings" + (f" in {time}" if time else "")
    return (
        f"{'' if exact else 'about '}{requests:,.0f} requests in {time}"
        + (f" (and up to {human_duration(drains)} of drains)" if drains else "")
        + output_words(scenario.workload, requests)
    )
