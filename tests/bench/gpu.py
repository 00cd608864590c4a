"""The topologies on a host with a GPU: real shapes, random weights, one GPU each.

``python -m tests.bench.gpu --out DIR``. Builds a model of Qwen2.5-1.5B's shape in bfloat16 (random weights
cost the same time a token as real ones) with a tokenizer whose every id decodes, starts RVC and RAC on it in
turn and drives the same rounds, then RVC alone at steady rates. Prints the tables; run folders stay in DIR.
``--suite fronts`` compares front ends instead (:mod:`tests.bench.gpu_fronts`), ``--suite paper`` makes the
experiment's table (:mod:`tests.bench.gpu_paper`), ``--suite energy`` holds integrated power against NVML's
counter (:mod:`tests.bench.gpu_energy`), ``--suite scale`` one engine against many
(:mod:`tests.bench.gpu_scale`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rvtop.plain import kpm_table
from tests.backends.backend_process import BackendProcess
from tests.bench import gpu_energy, gpu_fronts, gpu_paper, gpu_scale
from tests.bench.gpu_model import SHAPES, build_model

_ROUNDS = """\
name: rounds
seed: 3
workload: {{kind: synthetic, prompt_tokens: 280, output_tokens: {tokens}}}
phases:
  - {{name: warm, rounds: {{sizes: [2]}}, warmup: true}}
  - {{name: burst, rounds: {{sizes: [{size}]}}}}
"""


def run(url: str, out: Path, *arguments: str) -> dict[str, Any]:
    """``rvtop run`` against ``url``; the summary."""
    command = [sys.executable, "-m", "rvtop.cli", "run", *arguments, "--target", url, "--out", str(out)]
    subprocess.run(command, check=True)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_bytes())
    return summary


def main() -> None:
    """Runs a suite; without ``--suite`` RVC and RAC."""
    if sys.argv[1:2] == ["--suite"]:
        suites = {
            "fronts": gpu_fronts.main,
            "paper": gpu_paper.main,
            "energy": gpu_energy.main,
            "scale": gpu_scale.main,
        }
        suites[sys.argv[2]](run, sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/rvtop-gpu"))
    parser.add_argument("--shape", choices=SHAPES, default="1.5b")
    parser.add_argument("--size", type=int, default=8, help="requests at once in the comparison")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rates", default="24,64,96")
    parser.add_argument("--engine-arg", action="append", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    model = build_model(options.work, options.shape)
    print(f"model ready after {time.perf_counter() - began:.0f} s", flush=True)
    scenario = options.out / "rounds.yaml"
    scenario.write_text(_ROUNDS.format(size=options.size, tokens=options.tokens))
    engine_args = [part for text in options.engine_arg for part in ("--engine-arg", text)]
    rounds: dict[str, Any] = {}
    for topology, more in (("rvc", engine_args), ("rac", [])):
        log = options.out / f"{topology}.log"
        began = time.perf_counter()
        base = ["--model", f"q={model}", "--dtype", "bfloat16", "--max-model-len", "2048"]
        backend = BackendProcess(topology, "--lease", *base, *more, log=log)
        try:
            url = backend.url
            print(f"{topology} ready after {time.perf_counter() - began:.0f} s", flush=True)
            rounds[topology] = run(url, options.out / f"rounds-{topology}", str(scenario))
            if topology == "rvc":
                for rate in options.rates.split(","):
                    load = ["--rate", rate, "--duration", "15s", "--prompt-tokens", "280"]
                    run(url, options.out / f"rvc-{rate}", *load, "--output-tokens", "256")
        finally:
            backend.end_lease()
            backend.wait(60)
    print(kpm_table(rounds))
    for topology, summary in rounds.items():
        print(topology, "server:", json.dumps(summary["server"]))


if __name__ == "__main__":
    main()
