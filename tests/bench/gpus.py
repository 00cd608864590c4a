"""The topologies on a host with several GPUs: one engine a GPU, tensor and pipeline parallel ones, several
models.

``python -m tests.bench.gpus --out DIR``. Real shapes, random weights (see :mod:`tests.bench.gpu`). For each
case: which devices the engines took (``/rvtop/topology``), and the figures of one steady load.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.plain import kpm_table
from tests.backends.backend_process import BackendProcess
from tests.bench.gpu import run
from tests.bench.gpu_model import build_model


@dataclass(frozen=True)
class Case:
    """One way to use the GPUs. ``models`` are names; all are the same weights."""

    name: str
    topology: str
    models: tuple[str, ...] = ("q",)
    more: tuple[str, ...] = ()
    rate: str = "64"


def cases(gpus: int) -> list[Case]:
    """The ways to use ``gpus`` GPUs (>= 2)."""
    two = ("q3b", "q15b")
    both = ("--tensor-parallel", "2", "--pipeline-parallel", str(gpus // 2))
    return [
        Case("rvc", "rvc", rate="128"),
        Case("rvc-tp", "rvc", more=("--tensor-parallel", str(gpus)), rate="64"),
        Case("rvc-pp", "rvc", more=("--pipeline-parallel", str(gpus)), rate="64"),
        *([Case("rvc-tp-pp", "rvc", more=both, rate="64")] if gpus >= 4 and not gpus % 2 else []),
        Case("rvc-models", "rvc", two, rate="128"),
        Case("rac-models", "rac", two, rate="0.4"),
    ]


def main() -> None:
    """Runs the cases in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/rvtop-gpu"))
    parser.add_argument("--shape", default="1.5b")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--only", default="", help="names of cases, with commas")
    parser.add_argument("--engine-arg", action="append", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = build_model(options.work, options.shape)
    rows: dict[str, Any] = {}
    for case in cases(options.gpus):
        if options.only and case.name not in options.only.split(","):
            continue
        named = [part for name in case.models for part in ("--model", f"{name}={model}")]
        vllm = [part for text in options.engine_arg for part in ("--engine-arg", text)]
        base = [*named, "--dtype", "bfloat16", "--max-model-len", "2048", *case.more]
        base += vllm if case.topology == "rvc" else []
        began = time.perf_counter()
        backend = BackendProcess(case.topology, "--lease", *base, log=options.out / f"{case.name}.log")
        try:
            url = backend.url
            print(f"{case.name} ready after {time.perf_counter() - began:.0f} s", flush=True)
            with urllib.request.urlopen(f"{url}/rvtop/topology", timeout=20) as answer:
                topology = json.load(answer)
            for engine in topology["engines"]:
                print(
                    "  ", {key: engine.get(key) for key in ("engine", "model", "devices", "state", "node_id")}
                )
            load = ["--rate", case.rate, "--duration", f"{options.seconds}s", "--workers", "auto"]
            load += ["--prompt-tokens", "280", "--output-tokens", "128" if case.topology == "rvc" else "32"]
            load += [part for name in case.models for part in ("--model", name)]
            rows[case.name] = run(url, options.out / f"run-{case.name}", *load)
        finally:
            backend.end_lease()
            backend.wait(60)
        print("  ", rows[case.name]["by_model"].keys(), rows[case.name]["server"]["gpus"], flush=True)
    print(kpm_table(rows))


if __name__ == "__main__":
    main()
