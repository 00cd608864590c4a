"""RVC's front processes against vLLM's front ends, on one GPU and one machine.

``python -m tests.bench.gpu --suite fronts --out DIR --servers rvc-4,vllm-4,vllm-4,rvc-4``. Each server is
started in turn, given the same loads, and ended; a claim holds only within one such pair A B B A. Names:
``rvc-N`` (``--front-processes N``), ``vllm-N`` (``vllm serve --api-server-count N``), ``vllm-rust`` (vLLM's
front end in Rust), ``rsv`` (Ray Serve LLM as shipped), ``rsv-0`` (its batcher off). After a number ``xM``
means M engines, ``tpM`` tensor parallel and ``ppM`` pipeline parallel ones, for example ``rvc-4tp2``. All
stand behind the same router, with the same arguments of the engine, and more of them by ``--more``.
``--shape tiny`` runs the same on the CPU with the tiny model, to try the suite itself.

For each load: the client's figures, the GPU's busy share, and the CPU seconds of the server's processes.
``--energy SECONDS`` adds a steady phase in which the GPU's power is integrated beside NVML's own counter,
``--second RATE:SECONDS`` the same rate by ``vllm bench serve``, a client that is not ours.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.backends.backend_process import BackendProcess
from tests.bench.gpu_model import dummy_model
from tests.bench.gpu_watch import CpuWatch, GpuWatch

_BURST = """\
name: burst
seed: {seed}
workload: {{kind: synthetic, prompt_tokens: {prompt}, output_tokens: {output}}}
phases:
  - {{name: burst, rounds: {{sizes: [{size}]}}}}
"""


_SECOND_LIMIT_S = 240.0
_PARALLEL = {"x": "--num-replicas", "tp": "--tensor-parallel", "pp": "--pipeline-parallel"}
_NAME = re.compile(r"(rvc|vllm)-(rust|[0-9]+)((?:(?:x|tp|pp)[0-9]+)*)")
_BATCHER = {"rsv": [], "rsv-0": ["--stream-batching-ms", "0"]}


def server_arguments(name: str) -> tuple[str, list[str]]:
    """Topology and its flags of a server's name. Raises ValueError."""
    if name in _BATCHER:
        return "rsv", list(_BATCHER[name])
    found = _NAME.fullmatch(name)
    if found is None or (found[1], found[2]) == ("rvc", "rust"):
        raise ValueError(f"{name}: write rvc-N, vllm-N, vllm-rust (and xM, tpM, ppM after it), rsv or rsv-0")
    topology, fronts, parallel = found.groups()
    flags = [
        part
        for way, number in re.findall(r"(x|tp|pp)([0-9]+)", parallel)
        for part in (_PARALLEL[way], number)
    ]
    if topology == "rvc":
        return topology, ["--front-processes", fronts, "--max-queue", "unlimited", *flags]
    if fronts == "rust":
        return topology, ["--rust-frontend", *flags]
    return topology, ["--api-server-count", fronts, *flags]


def engines_of(name: str) -> int:
    """How many engines a server of this name has."""
    found = re.search(r"x([0-9]+)", name)
    return int(found[1]) if found else 1


def engine_flags(shape: str, model: Path) -> list[str]:
    """What every server is started with."""
    flags = ["--model", f"q={model}", "--max-model-len", "2048"]
    if shape == "tiny":
        return [*flags, "--dtype", "float32", "--threads", "1", "--max-num-seqs", "64"]
    return [
        *flags,
        *("--dtype", "bfloat16", "--load-format", "dummy", "--max-num-seqs", "1024"),
        *("--engine-arg", "attention_backend=FLASH_ATTN"),
    ]


def drive(
    run: Any, backend: BackendProcess, out: Path, options: argparse.Namespace, engines: int
) -> list[dict[str, Any]]:
    """All loads on a server that is up, each for every one of its ``engines``; one row each."""
    rows = []
    tokens = ["--output-tokens", str(options.output)]
    for number, text in enumerate(options.loads.split(",")):
        name, _, seconds = text.partition(":")
        rate = name if name == "burst" else f"{float(name) * engines:g}"
        arguments = ["--rate", rate, "--duration", f"{seconds or 10}s", "--seed", str(number + 1)]
        arguments += ["--prompt-tokens", str(options.prompt), *tokens]
        workers = ["--workers", str(options.workers)]
        if name == "burst":
            scenario = out / "burst.yaml"
            sizes = {
                "size": int(seconds or 256) * engines,
                "prompt": options.prompt,
                "output": options.output,
            }
            scenario.write_text(_BURST.format(seed=number + 1, **sizes))
            arguments = [str(scenario)]
        cpu = CpuWatch(backend.pid)
        with GpuWatch() as gpu:
            summary = run(backend.url, out / f"run-{name}", *arguments, *workers, "--ui", "none")
        preemptions = summary["server"].get("preemptions")
        rows.append(
            {
                "load": name,
                "preemptions": preemptions,
                **client_figures(summary),
                "gpu_busy": gpu.busy,
                **cpu.used(),
            }
        )
        print("  ", json.dumps(rows[-1]), flush=True)
    return rows


def client_figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Those of a run that the tables show."""
    kept = ("requests", "rate", "duration_s", "client", "kpm", "tokens", "ttft_ms", "tpot_ms", "itl_ms")
    return {name: summary[name] for name in kept}


def energy(run: Any, backend: BackendProcess, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Integrated power beside NVML's counter over a steady phase, and joules a token."""
    before = generated(backend.url)
    with GpuWatch() as gpu:
        load = ["--rate", options.energy_rate, "--duration", f"{options.energy}s", "--seed", "77"]
        load += ["--prompt-tokens", str(options.prompt), "--output-tokens", str(options.output)]
        run(backend.url, out / "run-energy", *load, "--ui", "none")
    tokens = generated(backend.url) - before
    row: dict[str, Any] = {"seconds": options.energy, "rate": options.energy_rate, "tokens": tokens}
    row |= {"integrated_j": gpu.integrated_j, "nvml_j": gpu.energy_j, "gpu_busy": gpu.busy}
    if gpu.integrated_j and gpu.energy_j:
        row["ratio"] = gpu.integrated_j / gpu.energy_j
        row["joules_a_token"] = gpu.energy_j / tokens
    print("  energy", json.dumps(row), flush=True)
    return row


def second_client(
    backend: BackendProcess, model: Path, out: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """What ``vllm bench serve`` measures of the same work; its own words for the figures."""
    rate, _, seconds = options.second.partition(":")
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "bench", "serve"]
    command += ["--backend", "openai-chat", "--base-url", backend.url, "--endpoint", "/v1/chat/completions"]
    command += ["--model", "q", "--tokenizer", str(model), "--dataset-name", "random", "--ignore-eos"]
    command += ["--random-input-len", str(options.second_input), "--random-output-len", str(options.output)]
    command += ["--num-prompts", str(int(float(rate) * float(seconds or 10))), "--request-rate", rate]
    command += ["--save-result", "--result-dir", str(out), "--result-filename", "second.json"]
    with (out / "second.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, timeout=_SECOND_LIMIT_S)
    told = json.loads((out / "second.json").read_text())
    kept = (
        "completed",
        "failed",
        "duration",
        "total_input_tokens",
        "total_output_tokens",
        "output_throughput",
    )
    times = (f"{which}_{what}_ms" for what in ("ttft", "tpot", "itl") for which in ("mean", "median", "p99"))
    row = {name: told.get(name) for name in (*kept, *times)}
    print("  second client", json.dumps(row), flush=True)
    return row


def generated(url: str) -> float:
    """Tokens that the engines have made, by their own page."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith("vllm:generation_tokens_total"))


def main(run: Any, argv: list[str]) -> None:
    """Runs the servers in turn; ``fronts.json`` in the folder has all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/rvtop-gpu"))
    parser.add_argument("--shape", default="1.5b")
    parser.add_argument("--servers", default="rvc-4,vllm-4,vllm-4,rvc-4")
    parser.add_argument("--loads", default="24:8,96:10,192:8,burst:256", help="RATE:SECONDS or burst:SIZE")
    parser.add_argument("--prompt", type=int, default=280, help="synthetic tokens, 2.26 of the model's each")
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2, help="rvtop's load workers")
    parser.add_argument("--energy", type=int, default=0, help="seconds; after the last server's loads")
    parser.add_argument("--energy-rate", default="24")
    parser.add_argument("--second", default="", help="RATE:SECONDS for `vllm bench serve`; empty: not run")
    parser.add_argument("--second-input", type=int, default=600, help="tokens in of its prompts")
    parser.add_argument("--more", action="append", default=[], help="one more flag of every server")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    model = dummy_model(options.work, options.shape)
    done: list[dict[str, Any]] = []
    servers = options.servers.split(",")
    for number, name in enumerate(servers):
        topology, more = server_arguments(name)
        out = options.out / f"{number}-{name}"
        out.mkdir(parents=True)
        began = time.monotonic()
        arguments = [*engine_flags(options.shape, model), *more, *options.more]
        backend = BackendProcess(topology, "--lease", *arguments, log=out / "server.log")
        row: dict[str, Any] = {"server": name, "order": number}
        try:
            backend.wait_for("ready", limit_s=400)
            row["start_s"] = round(time.monotonic() - began, 1)
            print(f"{name} ready after {row['start_s']} s", flush=True)
            row["loads"] = drive(run, backend, out, options, engines_of(name))
            if options.second:
                row["second"] = second_client(backend, model, out, options)
            if options.energy and number == len(servers) - 1:
                row["energy"] = energy(run, backend, out, options)
        except (
            AssertionError,
            OSError,
            subprocess.SubprocessError,
        ) as error:  # the others are worth their time
            row["failed"] = str(error)[-3000:]
            print(f"{name} failed: {row['failed']}", flush=True)
        finally:
            backend.end_lease()
            backend.wait(60)
        done.append(row)
        (options.out / "fronts.json").write_text(json.dumps(done, indent=1))
