"""One engine against as many as there are GPUs, and engines that take several.

``python -m tests.bench.gpu --suite scale --out DIR --gpus 2``. Each engine gets the same load: one engine, N
engines, one engine again, then a tensor parallel and a pipeline parallel engine over all GPUs (both at once
where there are four or more). Told: tokens/s of N engines over N times those of one, by the mean of its two
runs, and whether the client limited any. The loads are long, or start and end weigh more than the middle.
Options are those of :mod:`tests.bench.gpu_fronts`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench import gpu_fronts


def servers(gpus: int, fronts: int) -> list[str]:
    """The servers in their order."""
    one, many = f"rvc-{fronts}x1", f"rvc-{fronts}x{gpus}"
    both = [f"rvc-{fronts}tp2pp{gpus // 2}"] if gpus >= 4 and gpus % 2 == 0 else []
    return [one, many, one, f"rvc-{fronts}tp{gpus}", f"rvc-{fronts}pp{gpus}", *both]


def shares(rows: list[dict[str, Any]], gpus: int) -> dict[str, dict[str, Any]]:
    """Of each load: tokens/s of ``gpus`` engines as a share of ``gpus`` times one, and who was limited."""
    found: dict[str, dict[str, Any]] = {}
    loads = {row["server"].partition("x")[2]: row["loads"] for row in rows if "loads" in row}
    for many in loads.get(str(gpus), []):
        ones = [
            load
            for row in rows
            if row["server"].endswith("x1")
            for load in row.get("loads", [])
            if load["load"] == many["load"]
        ]
        if ones:
            one = fmean(load["kpm"]["tps"] for load in ones)
            limited = [load["client"]["limited_by"] for load in (*ones, many) if load["client"]["limited_by"]]
            found[many["load"]] = {
                "share": many["kpm"]["tps"] / (gpus * one),
                "client_limited": limited,
            }
    return found


def main(run: Any, argv: list[str]) -> None:
    """Runs the servers in turn; ``scale.json`` beside ``fronts.json`` has the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--fronts", type=int, default=4, help="front processes of each engine")
    options, more = parser.parse_known_args(argv)
    names = servers(options.gpus, options.fronts)
    gpu_fronts.main(
        run,
        [
            *("--out", str(options.out), "--servers", ",".join(names), "--workers", str(2 * options.gpus)),
            *("--loads", "96:20,burst:512"),
            *more,
        ],
    )
    rows = json.loads((options.out / "fronts.json").read_text())
    found = shares(rows, options.gpus)
    (options.out / "scale.json").write_text(json.dumps(found, indent=1))
    for load, told in found.items():
        print(f"{load}: {options.gpus} engines make {told['share']:.3f} x {options.gpus} times one", told)
