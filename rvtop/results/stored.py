"""Run folders read back to be listed and compared, without NumPy: a screen reads them too.

A folder may be somebody else's: whatever is not as a summary has it counts as not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.results.compare import ALL, COMPLETED, FIGURES, SPAN, Blocks, Figures, Side
from rvtop.results.lines import LONGEST, open_file, read_lines
from rvtop.stats.distribution import BUCKETS, EMPTY, Distribution
from rvtop.text import LEFT_OUT, NAME_LIMIT, printable, printable_json, told

#: So many runs of a folder are listed, the newest ones.
MOST_LISTED = 200
#: A summary of thousands of rounds is some megabytes.
_LARGEST = 64 << 20
#: Commands that change no load, and who sends those that a scenario does not hold.
_NO_LOAD = ("mark", "undo", "slo", "stop", "record")
_HANDS = ("keyboard", "control")
_MOST_TEXT = 300
#: Nothing that a run measures comes near; sums and products of what lies below stay finite.
_ENDLESS = 1e18
#: Fields of a phase in the command log, with what they are where they say nothing.
_PHASE = {
    "rate_to": None,
    "duration_s": None,
    "arrivals": "constant",
    "burstiness": 1.0,
    "burst": 0,
    "max_in_flight": None,
    "shape": "linear",
    "steps": 1,
    "peak_at_s": 0.0,
    "peak_for_s": 0.0,
    "concurrency": 0,
    "limit": None,
    "cancel_share": 0.0,
    "cancel_after_s": 0.0,
}
#: Ends before the time that the scenario has.
_ENDED_EARLY = {
    "interrupted": "was interrupted",
    "cut_off": "was cut off",
    "client_failed": "failed in rvtop",
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """A stored run in a list. ``end`` is the kind of its end."""

    folder: str
    name: str
    label: str
    started_at: str
    end: str
    ttft_p99_ms: float | None
    tps: float | None
    completed_pct: float | None


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder. Raises UserError: what is missing, and how to get it."""
    path = folder / run_files.SUMMARY
    try:
        with open_file(path) as file:
            text = file.read(_LARGEST + 1)
        data = printable_json(orjson.loads(text)) if len(text) <= _LARGEST else None
    except FileNotFoundError:
        if not (folder / run_files.REQUESTS).exists():
            raise UserError(f"{folder}: holds no run; give the folder of one, as in runs/") from None
        raise UserError(f"{folder}: holds no {run_files.SUMMARY}; rvtop report {folder} makes it") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: not a folder; give the folder of a run") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}; rvtop report {folder} makes it anew") from None
    if not isinstance(data, dict) or not isinstance(data.get("kpm"), dict):
        raise UserError(f"{path}: not a summary of this version; rvtop report {folder} makes it anew")
    return data


def side_of(folder: Path, summary: Mapping[str, Any]) -> Side:
    """A stored run as one side of a comparison."""
    environment = environment_of(folder)
    commands = read_lines(folder / run_files.COMMANDS, [])
    blocks = blocks_of(summary)
    parts = {ALL: figures_of(summary)}
    for part in _listed(summary.get("phases")):
        if not part.get("warmup") and isinstance(part.get("name"), str):
            parts[part["name"]] = figures_of(part)
    return Side(
        label_of(summary),
        str(folder),
        parts,
        ttft=ttft_of(summary),
        work=dict(_work(folder, summary, commands)),
        setting=dict(_setting(summary, environment)),
        faults=tuple(_faults(summary, environment, commands)),
        doubts=client_doubts(summary),
        chunks=inner(summary, "tokens").get("source") == "chunks",
        slo=_slo(environment, commands),
        blocks=blocks,
    )


def label_of(summary: Mapping[str, Any]) -> str:
    """What a run ran on: its topology, else its server."""
    return told(summary.get("topology") or summary.get("target") or summary.get("name"), NAME_LIMIT)


def figures_of(part: Mapping[str, Any]) -> Figures:
    """The figures of a summary, or of a phase in one."""
    made: dict[str, float | None] = {}
    for figure in FIGURES:
        block, _, value = figure.key.partition("_")
        if value in ("mean", "p50", "p90", "p99"):
            made[figure.key] = number(inner(part, f"{block}_ms").get(value))
    requests, kpm = inner(part, "requests"), inner(part, "kpm")
    errors = [number(n) for n in inner(requests, "errors").values()]
    made["errors"] = sum(n for n in errors if n is not None) if "errors" in requests else None
    made["tps"], made[COMPLETED] = number(kpm.get("tps")), number(kpm.get(COMPLETED))
    made["goodput_rps"] = number(part.get("goodput_rps"))
    made["joules_per_token"] = number(inner(part, "energy").get("joules_per_token"))
    for key in ("usd_per_mtok_in", "usd_per_mtok_out"):
        made[key] = number(inner(part, "cost").get(key))
    return made


def blocks_of(summary: Mapping[str, Any]) -> dict[str, Blocks]:
    """The figures of its blocks by part; empty where a summary of before has none."""
    told = summary.get("blocks")
    if not isinstance(told, dict):
        return {}
    phases = inner(told, "phases")
    return {ALL: _values(inner(told, "whole"))} | {name: _values(inner(phases, name)) for name in phases}


def _values(of: Mapping[str, Any]) -> Blocks:
    return {key: tuple(map(number, values)) for key, values in of.items() if isinstance(values, list)}


def ttft_of(summary: Mapping[str, Any]) -> Distribution:
    """The TTFT of all that was measured; empty where the summary has none that can be drawn."""
    told = inner(summary, "ttft_histogram")
    try:
        buckets = tuple((int(index), int(n)) for index, n in told.get("buckets") or ())
        sums = [int(told[key]) for key in ("sum_ns", "min_ns", "max_ns")] if buckets else [0, 0, 0]
    except (TypeError, ValueError, KeyError, OverflowError):
        return EMPTY
    places = [index for index, _ in buckets]
    sound = places == sorted(set(places)) and all(0 <= i < BUCKETS and n > 0 for i, n in buckets)
    return Distribution(buckets, *sums) if sound else EMPTY


def stored_runs(runs: Path) -> list[RunRow]:
    """The runs in a folder that have a summary, the newest first."""
    aged = []
    for path in runs.glob(f"*/{run_files.SUMMARY}"):
        try:
            aged.append((path.stat().st_mtime, str(path.parent)))
        except OSError:  # it is being moved away
            continue
    rows = []
    for _, folder in sorted(aged, reverse=True)[:MOST_LISTED]:
        try:
            rows.append(_row(folder, read_summary(Path(folder))))
        except UserError:  # being written, or no run's
            continue
    return rows


def _row(folder: str, summary: Mapping[str, Any]) -> RunRow:
    figures = figures_of(summary)
    return RunRow(
        printable(folder),
        told(summary.get("name"), NAME_LIMIT),
        label_of(summary),
        told(summary.get("started_at"), NAME_LIMIT),
        told(inner(summary, "end").get("kind"), NAME_LIMIT),
        figures.get("ttft_p99"),
        figures.get("tps"),
        figures.get(COMPLETED),
    )


# -- what must be the same -------------------------------------------------------------------------


def _work(
    folder: Path, summary: Mapping[str, Any], commands: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    yield SPAN, "a whole run"
    digest = summary.get("prompts_digest")
    yield "prompts", digest[:12] if isinstance(digest, str) else ""
    blocks = _scenario(folder)
    for key in ("seed", "workload"):
        yield key, blocks.get(key, "")
    yield from ((key, blocks[key]) for key in ("endpoint", "stream", "batch") if key in blocks)
    phases = [row for row in commands if row.get("cmd") == "phase"]
    for row in phases:
        yield f"phase {told(row.get('name'), NAME_LIMIT)}", _phase(row)
    # A closed loop sends as fast as it is answered; of all else the plan says how many there are.
    loops = {row.get("name") for row in phases if row.get("concurrency")}
    planned: dict[str, Any] = {}
    for part in _listed(summary.get("phases")):
        name, count = str(part.get("name")).removesuffix(LEFT_OUT), inner(part, "requests").get("planned")
        if part.get("name") not in loops:  # a warm-up that is left out is work of its phase all the same
            planned[name] = planned[name] + count if isinstance(planned.get(name), int) and count else count
    for name, count in planned.items():
        yield f"requests of {name}", f"{count}"


def _phase(row: Mapping[str, Any]) -> str:
    told_of = [f"rate {_short(row.get('rate_from'))}"]
    for key, nothing in _PHASE.items():
        value = row.get(key)
        if value not in (None, nothing) and not (key == "rate_to" and value == row.get("rate_from")):
            told_of.append(f"{key.removesuffix('_s').replace('_', ' ')} {_short(value)}")
    return ", ".join(told_of)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else told(value, NAME_LIMIT)


def _scenario(folder: Path) -> dict[str, str]:
    """The scenario's top-level keys and what stands below each, as text: rvtop wrote the file."""
    try:
        with open_file(folder / run_files.SCENARIO) as file:
            text = file.read(LONGEST).decode("utf-8", "replace")
    except OSError:
        return {}
    blocks: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith(("-", "#", "}")):
            key, _, rest = line.partition(":")
            blocks[key] = rest
        elif key:
            blocks[key] += " " + line
    return {name: printable(" ".join(block.split()), 500) for name, block in blocks.items()}


def _faults(
    summary: Mapping[str, Any], environment: Mapping[str, Any], commands: list[dict[str, Any]]
) -> Iterator[str]:
    early = _ENDED_EARLY.get(str(inner(summary, "end").get("kind")))
    if early:
        yield early
    hands = by_hand(commands)
    if hands:
        yield f"was driven by hand ({len(hands)} command{'' if len(hands) == 1 else 's'})"
    if inner(environment, "flags").get("find_max"):
        yield "was a search for the highest rate"
    if inner(environment, "flags").get("pair"):
        yield "was a run of pairs: its figures are of two servers together"


def by_hand(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The commands that changed the load and that no scenario sent."""
    return [row for row in commands if row.get("by") in _HANDS and row.get("cmd") not in _NO_LOAD]


# -- what may differ -------------------------------------------------------------------------------


def _setting(summary: Mapping[str, Any], environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "scenario", told(summary.get("name"), NAME_LIMIT)
    models = summary.get("models")
    yield "models", ", ".join(told(name, NAME_LIMIT) for name in models) if isinstance(models, list) else ""
    yield "load workers", told(inner(environment, "flags").get("workers"), NAME_LIMIT)
    backend = inner(inner(environment, "flags"), "backend").get("arguments")
    yield "arguments", printable(" ".join(map(str, backend)), _MOST_TEXT) if isinstance(backend, list) else ""
    yield "fields", printable(orjson.dumps(inner(inner(environment, "flags"), "body")).decode(), _MOST_TEXT)
    yield "machine", f"{told(environment.get('cpu'), NAME_LIMIT)} × {environment.get('cpus_usable', '?')}"
    yield "GPUs", ", ".join(_gpus(summary))
    prices = {key: number(value) for key, value in inner(environment, "prices").items()}
    set_ones = [f"{told(key, NAME_LIMIT)} {value:g}" for key, value in prices.items() if value is not None]
    yield "prices", ", ".join(set_ones[:10])
    for name in ("rvtop", "python", "client_reads"):
        yield name.replace("_", " "), told(environment.get(name), NAME_LIMIT)
    versions = inner(environment, "versions")
    yield from ((told(name, NAME_LIMIT), told(versions[name], NAME_LIMIT)) for name in versions)
    tokens = _per_answer(summary)
    yield "tokens an answer", "" if tokens is None else f"{tokens:.3g}"


def _gpus(summary: Mapping[str, Any]) -> list[str]:
    """``2 × H200`` for each kind."""
    names = [told(gpu.get("name"), NAME_LIMIT) for gpu in _listed(inner(summary, "server").get("gpus"))]
    return [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]


def client_doubts(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Why the load workers bent the figures; empty where they did not."""
    limited = inner(summary, "client").get("limited_by") if summary.get("client_limited") else None
    return (f"CLIENT-LIMITED: {told(limited)}",) if limited else ()


def _per_answer(summary: Mapping[str, Any]) -> float | None:
    output, ok = (
        number(inner(summary, at).get(key)) for at, key in (("tokens", "output"), ("requests", "ok"))
    )
    return output / ok if output is not None and ok else None


def _slo(environment: Mapping[str, Any], commands: Iterable[Mapping[str, Any]]) -> str:
    """What goodput counted by: the limits at first, then each change of them with its second."""
    parts = [_limits(inner(environment, "slo"))]
    parts += [
        f"from {(number(row.get('at_ns')) or 0.0) / 1e9:.1f} s: {_limits(row) or 'none'}"
        for row in commands
        if row.get("cmd") == "slo"
    ]
    return "; ".join(filter(None, parts))


def _limits(row: Mapping[str, Any]) -> str:
    limits = {name: number(row.get(f"{name}_ms")) for name in ("ttft", "tpot", "e2e")}
    return ", ".join(f"{name} {value:g} ms" for name, value in limits.items() if value is not None)


# -- reading ---------------------------------------------------------------------------------------


def environment_of(folder: Path) -> dict[str, Any]:
    """``environment.json``, its text printable; empty where it can't be read."""
    try:
        with open_file(folder / run_files.ENVIRONMENT) as file:
            data = printable_json(orjson.loads(file.read(LONGEST)))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def inner(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object there, or an empty one."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """A number, or None for anything else."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ENDLESS
    return value if usable else None
