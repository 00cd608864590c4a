"""The figures of a run worked out once more from its lines, with nothing of rvtop's: plain Python.

``python -m tests.recompute DIR``: whether the table of the showdown in DIR is what its requests say."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

BUCKET = 1.02  # a bucket of gaps ends at so many times the end of the one before; the first at 1 µs


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kpm(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The experiment's four figures, and completion, of requests."""
    good = [row for row in rows if row["error"] is None and row["first_token_ns"] is not None]
    if not good:
        return {
            "ttft_ms": None, "latency_avg_ms": None, "latency_total_s": None, "tps": None,
            "completed_pct": 0.0 if rows else None,
        }  # fmt: skip
    total_s = (max(r["last_token_ns"] for r in good) - min(r["intended_ns"] for r in rows)) / 1e9
    return {
        "ttft_ms": sum(r["first_token_ns"] - r["intended_ns"] for r in good) / len(good) / 1e6,
        "latency_avg_ms": sum(r["last_token_ns"] - r["intended_ns"] for r in good) / len(good) / 1e6,
        "latency_total_s": total_s,
        "tps": sum(r["output_tokens"] for r in good) / total_s,
        "completed_pct": 100 * len(good) / len(rows),
    }


def itl_ms(rows: list[dict[str, Any]], q: float) -> float:
    """The ``q``-th percentile of the gaps between tokens."""
    counts: dict[int, int] = {}
    for row in rows:
        if row["error"] is None:
            for bucket, count in row["itl_hist"]:
                counts[bucket] = counts.get(bucket, 0) + count
    wanted, seen = sum(counts.values()) * q / 100, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return float(BUCKET ** (bucket - 0.5) / 1000)
    raise ValueError("no gaps")


def measured(folder: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """By phase the requests of each time that it ran, without warm-ups; rounds of one size are one phase."""
    begun = [row for row in lines(folder / "commands.jsonl") if row["cmd"] == "phase" and not row["warmup"]]
    found: dict[str, list[list[dict[str, Any]]]] = {}
    requests = lines(folder / "requests.jsonl")
    for phase in begun:
        own = [row for row in requests if row["phase"] == phase["name"]]
        found.setdefault(phase["name"].split("#")[0], []).append(own)
    return found


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def table(folders: dict[str, list[Path]], reference: str) -> dict[str, dict[str, Any]]:
    """By topology its KPM, those of each phase, and the changes in %; a repeat is a folder."""
    found: dict[str, dict[str, Any]] = {}
    for name, repeats in folders.items():
        runs = [measured(folder) for folder in repeats]
        wholes = [kpm([row for rows in run.values() for one in rows for row in one]) for run in runs]
        phases = {phase: means([kpm(one) for run in runs for one in run[phase]]) for phase in runs[0]}
        found[name] = {"kpm": means(wholes), "phases": phases}
    for one in found.values():
        base = found[reference]
        one["change_pct"] = changes(one["kpm"], base["kpm"])
        one["phase_changes"] = {
            phase: changes(figures, base["phases"][phase]) for phase, figures in one["phases"].items()
        }
    return found


def means(kpms: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {key: mean([one[key] for one in kpms]) for key in kpms[0]}


def changes(mine: dict[str, float | None], base: dict[str, float | None]) -> dict[str, float] | None:
    """None (CENSORED) where completion differs by more than a point."""
    done, theirs = mine["completed_pct"], base["completed_pct"]
    if done is None or theirs is None or abs(done - theirs) > 1:
        return None
    return {
        key: 100 * (value - other) / other
        for key, value in mine.items()
        if key != "completed_pct" and value is not None and (other := base[key])
    }


def differences(folder: Path) -> list[str]:
    """What of a showdown's table is not what its requests say; ITL within its buckets of 1 %."""
    told = json.loads((folder / "showdown.json").read_text())
    rows = {row["name"]: row for row in told["rows"] if row["folders"]}
    folders = {name: [folder / one for one in row["folders"]] for name, row in rows.items()}
    again = table(folders, told["reference"])
    found: list[str] = []

    def compare(what: str, said: dict[str, Any] | None, own: dict[str, Any] | None, rel: float) -> None:
        for key in sorted({*(said or {}), *(own or {})}):
            one, other = (said or {}).get(key), (own or {}).get(key)
            same = one is other is None or (
                None not in (one, other) and math.isclose(one, other, rel_tol=rel, abs_tol=rel)
            )
            if not same:
                found.append(f"{what} {key}: {one}, by its requests {other}")

    for name, row in rows.items():
        own = again[name]
        compare(name, row["kpm"], own["kpm"], 1e-12)
        if name != told["reference"]:
            compare(f"{name} change", row["change_pct"], own["change_pct"], 1e-9)
        for phase in row["phases"]:
            compare(f"{name} {phase['name']}", phase["kpm"], own["phases"][phase["name"]], 1e-12)
        for run in folders[name]:
            requests = [one for runs in measured(run).values() for rows_ in runs for one in rows_]
            summary = json.loads((run / "summary.json").read_text())
            itl = {f"p{q}": itl_ms(requests, q) for q in (50, 99)}
            compare(f"{run.name} ITL", {key: summary["itl_ms"][key] for key in itl}, itl, 0.01)
    return found


if __name__ == "__main__":
    wrong = differences(Path(sys.argv[1]))
    print("\n".join(wrong) or "the table is what the requests say")
    sys.exit(bool(wrong))
