"""The same work on RAC and on RVC: one core for the engines, a model whose cost is arithmetic.

Rounds of requests at once, each round waited for, so that both do all of the work (nothing is censored)
and the figures are the experiment's own. Ratios of one run; the load has the other core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rvtop.plain import kpm_table
from tests.backends.backend_process import BackendProcess

_RVTOP = str(Path(sys.executable).with_name("rvtop"))
_ENGINE_ARGS = (
    "--model",
    "large=tiny:large",
    "--threads",
    "1",
    "--dtype",
    "float32",
    "--max-queue",
    "unlimited",
)

_SCENARIO = """\
name: shape
seed: 5
workload: {{kind: prompts, file: {prompts}, max_tokens: {tokens}, ignore_eos: true}}
phases:
  - {{name: warm, rounds: {{sizes: [{size}]}}, warmup: true}}
  - {{name: burst, rounds: {{sizes: [{size}], repeat: {repeat}}}}}
"""


def on_core(core: int) -> None:
    """This process, and what it starts from now on, runs on one core."""
    os.sched_setaffinity(0, {core})


def drive(url: str, folder: Path, size: int, repeat: int, tokens: int) -> dict[str, Any]:
    """Runs the rounds against ``url``; the summary."""
    prompts = Path(__file__).parents[2] / "scenarios" / "smoke.prompts.jsonl"
    scenario = folder / "shape.yaml"
    scenario.write_text(_SCENARIO.format(prompts=prompts, size=size, repeat=repeat, tokens=tokens))
    out = folder / "run"
    command = [_RVTOP, "run", str(scenario), "--target", url, "--out", str(out), "--ui", "none"]
    subprocess.run(command, check=True)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_bytes())
    return summary


def measure(topology: str, size: int, repeat: int, tokens: int) -> dict[str, Any]:
    """One topology from start to end, its engines on core 1 and the load on core 0."""
    folder = Path(tempfile.mkdtemp())
    cores = os.sched_getaffinity(0)
    try:
        on_core(max(cores))
        backend = BackendProcess(topology, "--lease", *_ENGINE_ARGS, log=folder / "backend.log")
        try:
            on_core(min(cores))
            return drive(backend.url, folder, size, repeat, tokens)
        finally:
            backend.end_lease()
            backend.wait()
    finally:
        os.sched_setaffinity(0, cores)
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Prints the KPM of each and RVC's change against RAC."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=24, help="requests at once")
    parser.add_argument("--repeat", type=int, default=2, help="rounds that count")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args(arguments)
    rows = {name: measure(name, options.size, options.repeat, options.tokens) for name in ("rac", "rvc")}
    print(f"shape of the difference: rounds of {options.size}, {options.tokens} tokens, model 8 layers x 512")
    print(kpm_table(rows))
    rac, rvc = rows["rac"]["kpm"], rows["rvc"]["kpm"]
    print(
        f"  RVC against RAC: tokens/s x {rvc['tps'] / rac['tps']:.2f}, "
        f"mean TTFT {100 * (rvc['ttft_ms'] / rac['ttft_ms'] - 1):+.1f} %, "
        f"Latency_avg {100 * (rvc['latency_avg_ms'] / rac['latency_avg_ms'] - 1):+.1f} %",
        flush=True,
    )


if __name__ == "__main__":
    main()
