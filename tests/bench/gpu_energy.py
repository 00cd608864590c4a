"""Energy on a GPU: integrated power against NVML's own counter over one phase, and joules a token.

``python -m tests.bench.gpu --suite energy --out DIR``. Starts vLLM's own server on a model of a real shape
with random weights, leaves it alone for a while, then sends a steady load for a minute with ``rvtop run``,
which samples the GPU as it always does. Of the phase the run's summary has both figures: NVML's counter
(``joules``) and the power that NVML tells integrated over time (``joules_integrated``). They must agree
within 5 %: else, or where the GPU does not tell, the exit code is 1. A second watch, ten samples a second and
all its own, is told beside them. ``--target URL`` takes a server of this machine that is up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench.gpu_model import SHAPES, dummy_model
from tests.bench.gpu_watch import GpuWatch

#: How far the two may be apart.
WITHIN = 0.05
_START_LIMIT_S = 400.0
_SCENARIO = """\
name: energy
seed: 77
workload: {{kind: synthetic, prompt_tokens: {prompt}, output_tokens: {output}}}
phases:
  - {{name: idle, rate: 0, duration: {idle}s, warmup: true}}
  - {{name: warm, rate: {rate}, duration: {warm}s, warmup: true, drain: 30s}}
  - {{name: hold, rate: {rate}, duration: {seconds}s, arrivals: poisson, drain: 30s}}
"""


def verdict(energy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a phase's ``energy`` block: ``ratio`` (integrated power over the counter; None where the GPU
    does not tell both), and whether it is ``within`` the bound."""
    ratio = None
    if energy is not None and energy["source"] == "counter" and energy["joules"]:
        integrated = energy["joules_integrated"]
        ratio = None if integrated is None else integrated / energy["joules"]
    return {"ratio": ratio, "within": ratio is not None and abs(ratio - 1.0) <= WITHIN}


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """The URL of vLLM's server on the model; it ends with the block."""
    if options.target:
        yield options.target
        return
    model = dummy_model(options.work, options.shape)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "q", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", "2048"]
    if options.shape == "tiny":
        command += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"]
        command += ["--gpu-memory-utilization", "0.2"]  # of the CPU's memory
    else:
        command += ["--dtype", "bfloat16", "--load-format", "dummy", "--max-num-seqs", "1024"]
        command += ["--attention-backend", "FLASH_ATTN"]
    env = {
        **os.environ,
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = options.out / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        yield _until_up(process, f"http://127.0.0.1:{port}", log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> str:
    """Waits until it answers; returns ``url``. Raises SystemExit with the end of its log."""
    until = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            if answer.status == 200:
                return url
        time.sleep(0.5)
    raise SystemExit(f"vLLM did not start: {log.read_text(errors='replace')[-3000:]}")


def main(run: Any, argv: list[str]) -> None:
    """Runs it; ``energy.json`` in the folder has the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/rvtop-gpu"))
    parser.add_argument("--shape", choices=("tiny", *SHAPES), default="1.5b")
    parser.add_argument("--target", default="", help="a server of this machine instead of vLLM's own")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--idle", type=int, default=8)
    parser.add_argument("--warm", type=int, default=4)
    parser.add_argument("--rate", default="24")
    parser.add_argument("--prompt", type=int, default=280, help="synthetic tokens, 2.26 of the model's each")
    parser.add_argument("--output", type=int, default=256)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    scenario = options.out / "energy.yaml"
    kept = ("seconds", "idle", "warm", "rate", "prompt", "output")
    scenario.write_text(_SCENARIO.format(**{name: getattr(options, name) for name in kept}))
    began = time.monotonic()
    with server(options) as url:
        print(f"server ready after {time.monotonic() - began:.0f} s", flush=True)
        with GpuWatch() as watch:
            summary = run(url, options.out / "run-energy", str(scenario), "--ui", "none")
    (hold,) = [phase for phase in summary["phases"] if phase["name"] == "hold"]
    row: dict[str, Any] = {"energy": hold["energy"], **verdict(hold["energy"])}
    row |= {name: hold[name] for name in ("requests", "rate", "tokens", "ttft_ms", "tpot_ms")}
    row["gpus"] = hold["server"]["gpus"]
    row["watch"] = {"integrated_j": watch.integrated_j, "nvml_j": watch.energy_j, "gpu_busy": watch.busy}
    (options.out / "energy.json").write_text(json.dumps(row, indent=1))
    print(json.dumps(row), flush=True)
    ratio = "--" if row["ratio"] is None else f"{row['ratio']:.4f}"
    print(f"energy: integrated power / NVML's counter over {options.seconds} s = {ratio}", flush=True)
    if not row["within"]:
        raise SystemExit(f"not within {WITHIN:.0%}")
