"""The topologies on a host with a GPU: real shapes, random weights, one GPU each.

``python -m tests.bench.gpu --out DIR``. Builds a model of Qwen2.5-1.5B's shape in bfloat16 (random weights
cost the same time a token as real ones) with a tokenizer whose every id decodes, starts RVC and RAC on it in
turn and drives the same rounds, then RVC alone at steady rates. Prints the tables; run folders stay in DIR.
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

#: hidden, intermediate, layers, heads, KV heads
SHAPES = {"1.5b": (1536, 8960, 28, 12, 2), "3b": (2048, 11008, 36, 16, 2)}
VOCABULARY = 151936
_ROUNDS = """\
name: rounds
seed: 3
workload: {{kind: synthetic, prompt_tokens: 280, output_tokens: {tokens}}}
phases:
  - {{name: warm, rounds: {{sizes: [2]}}, warmup: true}}
  - {{name: burst, rounds: {{sizes: [{size}]}}}}
"""


def build_model(folder: Path, shape: str) -> Path:
    """A model folder of a real shape with random weights; made once."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from backends.models.tiny.tiny import ensure_model

    path = folder / f"qwen2.5-{shape}"
    if (path / "config.json").exists():
        return path
    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    path.mkdir(parents=True)
    _tokenizer(ensure_model(), path)
    model.save_pretrained(path)
    return path


def _tokenizer(source: Path, path: Path) -> None:
    """The small model's tokenizer with its vocabulary filled up, so that any sampled id has a text."""
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (source / name).exists():
            (path / name).write_bytes((source / name).read_bytes())
    data = json.loads((source / "tokenizer.json").read_text("utf-8"))
    vocabulary = data["model"]["vocab"]
    taken = set(vocabulary.values()) | {token["id"] for token in data["added_tokens"]}
    for number in range(VOCABULARY):
        if number not in taken:
            vocabulary[f"w{number}"] = number
    (path / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")


def run(url: str, out: Path, *arguments: str) -> dict[str, Any]:
    """``rvtop run`` against ``url``; the summary."""
    command = [sys.executable, "-m", "rvtop.cli", "run", *arguments, "--target", url, "--out", str(out)]
    subprocess.run(command, check=True)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_bytes())
    return summary


def main() -> None:
    """Runs all of it."""
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
