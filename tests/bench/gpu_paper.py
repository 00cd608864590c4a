"""The experiment's table on the GPUs of one machine: the topologies against RAC, on identical work.

``python -m tests.bench.gpu --suite paper --out DIR --topologies rac,rvc``. Models of Qwen2.5-3B's and
-1.5B's shapes with random weights share the GPUs, half for each; prompts are the sample's questions with
four passages each; every answer has the same length. A showdown runs rounds of 1 to 48 questions at once,
then the same numbers a second as an open loop, and cuts what has not ended when the drain is over
(CENSORED). Name RAC in each command: a change holds only within one machine.

Beside the showdown's table, whose clock begins when a request was meant to be sent, a second one has the
experiment's clock: it begins in the worker, behind the queue.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench.gpu_model import build_model

_SCENARIO = """\
name: paper
seed: 7
workload: {{kind: rag, where: client, questions: sample, index: sample, top_k: 4, max_tokens: {tokens}}}
phases:
  - {{name: warm, rounds: {{sizes: [1], repeat: 2}}, warmup: true}}
"""
_ROUNDS = "  - {{name: paper, rounds: {{sizes: [{sizes}], repeat: 1}}}}\n"
_RATE = "  - {{name: rps-{rate}, rate: {rate}, duration: {seconds}s, arrivals: poisson, drain: {drain}s}}\n"


def scenario(options: argparse.Namespace) -> str:
    """The scenario file of the loads asked for."""
    text = _SCENARIO.format(tokens=options.tokens)
    if options.sizes:
        text += _ROUNDS.format(sizes=", ".join(options.sizes.split(",")))
    for rate in filter(None, options.rates.split(",")):
        text += _RATE.format(rate=rate, seconds=options.seconds, drain=options.drain)
    return text


def in_worker(folder: Path) -> dict[str, dict[str, float | None]]:
    """Mean TTFT and latency in ms of each phase's answered requests, from when the engine took each: without
    what it waited in the client, in the front and in the engine's queue. None where the server tells none."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in (folder / "requests.jsonl").read_text().splitlines():
        row = json.loads(line)
        queue_ms = (row.get("server") or {}).get("queue_ms")
        if row["error"] is not None or row["first_token_ns"] is None or queue_ms is None:
            continue
        began = row["sent_ns"] + queue_ms * 1e6
        times = ((row["first_token_ns"] - began) / 1e6, (row["last_token_ns"] - began) / 1e6)
        found.setdefault(row["phase"], []).append(times)
    return {
        phase: {"ttft_ms": fmean(t[0] for t in times), "latency_avg_ms": fmean(t[1] for t in times)}
        for phase, times in found.items()
    }


def main(_run: Any, argv: list[str]) -> None:
    """Runs the showdown; ``showdown.json`` and ``in-worker.json`` lie in the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/rvtop-gpu"))
    parser.add_argument("--topologies", default="rac,rvc")
    parser.add_argument("--shapes", default="3b,1.5b", help="tiny,tiny tries the suite on the CPU")
    parser.add_argument("--sizes", default="1,6,12,24,48", help="rounds; empty: none")
    parser.add_argument("--rates", default="1,6,12,24,48", help="requests a second; empty: none")
    parser.add_argument("--seconds", type=int, default=20, help="of each rate")
    parser.add_argument("--drain", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    models = []
    for number, shape in enumerate(options.shapes.split(",")):
        models += ["--model", f"q{number}={build_model(options.work, shape)}"]
    print(f"models ready after {time.monotonic() - began:.0f} s", flush=True)
    path = options.out / "paper.yaml"
    path.write_text(scenario(options))
    out = options.out / "showdown"
    command = [sys.executable, "-m", "rvtop.cli", "showdown", str(path), "--topologies", options.topologies]
    subprocess.run(
        [*command, *models, "--max-model-len", "4096", "--out", str(out), "--ui", "plain"], check=False
    )
    clocks = {
        folder.name: in_worker(folder)
        for folder in sorted(out.glob("*/"))
        if (folder / "requests.jsonl").exists()
    }
    (options.out / "in-worker.json").write_text(json.dumps(clocks, indent=1))
    print("with the experiment's clock, mean TTFT and latency in ms:")
    for name, phases in clocks.items():
        for phase, told in phases.items():
            print(f"  {name:<14}{phase:<16}{told['ttft_ms']:>12.1f}{told['latency_avg_ms']:>12.1f}")
