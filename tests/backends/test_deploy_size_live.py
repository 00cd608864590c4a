"""``rvtop size`` against live runs: the rate it allows a calibrated server, memory of vLLM on the CPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from rvtop.deploy.model_files import read_model
from rvtop.deploy.service_time import Load, allowed
from rvtop.deploy.size import measured, weights_bytes
from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.whole_run import whole_run
from tests.mock.process import QueueingMock

pytestmark = pytest.mark.timeout(1800)
SLOTS, TOKENS = 8, 16
#: An answer takes a second, so that what other work on this machine adds is little beside it.
TTFT_MS, STEP_MS = 250.0, 50.0
LIMIT_MS = 1500.0
SCENARIO = """\
name: {name}
seed: {seed}
workload: {{kind: synthetic, prompt_tokens: 20, output_tokens: {tokens}, ignore_eos: true}}
phases:
  - {{name: load, rate: {rate}, arrivals: poisson, duration: {seconds}s, drain: 60s}}
"""


def run(url: str, folder: Path, rate: float, seconds: int) -> dict[str, Any]:
    """A run at a rate; its summary."""
    file = folder.with_suffix(".yaml")
    file.write_text(SCENARIO.format(name=folder.name, seed=11, tokens=TOKENS, rate=rate, seconds=seconds))
    return whole_run(folder, str(file), "--target", url, limit_s=600)[0]


def test_the_slo_holds_at_the_rate_it_allows_and_is_missed_at_1_3_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server has places of a fixed service time; rvtop learns that time from a run at a low rate."""
    with QueueingMock(SLOTS, TTFT_MS, STEP_MS, TOKENS) as mock:
        service = measured([run(mock.url, tmp_path / "profile", 1.0, 30)])
        found = allowed(SLOTS, service, Load(TOKENS), {"ttft_p99": LIMIT_MS})
        assert found is not None
        held = run(mock.url, tmp_path / "held", found.rps, 150)
        missed = run(mock.url, tmp_path / "missed", 1.3 * found.rps, 150)
    with capsys.disabled():
        print(
            f"\nallowed {found.rps:.1f} rps of {mock.capacity:.1f}: "
            f"TTFT p99 {held['ttft_ms']['p99']:.0f} ms; at 1.3 times "
            f"{missed['ttft_ms']['p99']:.0f} ms (limit {LIMIT_MS:g} ms)"
        )
    assert held["ttft_ms"]["p99"] <= LIMIT_MS
    assert missed["ttft_ms"]["p99"] > LIMIT_MS


CACHE = re.compile(r'(\w+)="([^"]*)"')


def cache_tokens(page: str) -> int:
    """Tokens that an engine has blocks for, by its own metrics."""
    line = next(line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))
    told = dict(CACHE.findall(line))
    return int(told["num_gpu_blocks"]) * int(told["block_size"])


_MAPPING = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ rw-p \S+ 00:00 0 .*?^Size:\s+(\d+) kB.*?^Rss:\s+(\d+) kB", re.M | re.S
)
#: A cache is given whole at the start: what of so large a mapping is not written yet counts as taken.
LARGE_MAPPING = 96 * 2**20


def taken(backend: BackendProcess) -> int:
    """Bytes of vLLM's engine process."""
    (engine,) = processes.named(backend.pid, "VLLM::Engin")
    smaps = Path(f"/proc/{engine.pid}/smaps").read_text()
    status = Path(f"/proc/{engine.pid}/status").read_text()
    rss = re.search(r"^VmRSS:\s+(\d+)", status, re.M)
    assert rss is not None
    large = [(1024 * int(size), 1024 * int(held)) for size, held in _MAPPING.findall(smaps)]
    return 1024 * int(rss[1]) + sum(size - held for size, held in large if size >= LARGE_MAPPING)


def test_weights_and_kv_are_what_vllm_takes_on_the_cpu(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The difference between a large and a tiny model in one engine each is weights and cache: all else is
    in both. The cache is the engine's own count of its tokens times the bytes of one."""
    from backends.models.tiny.tiny import ensure_model

    folders = {"tiny": tiny_model, "large": ensure_model("large")}
    held, tokens = {}, {}
    for name, folder in folders.items():
        backend = BackendProcess(
            *("vllm", "--lease", "--model", f"m={folder}", "--dtype", "float32", "--threads", "1"),
            *("--max-model-len", "1024", "--max-num-seqs", "16"),
            log=tmp_path / f"{name}.log",
        )
        try:
            page = httpx.get(f"{backend.url}/metrics", trust_env=False, timeout=30).text
            tokens[name] = cache_tokens(page)
            held[name] = taken(backend)
        finally:
            backend.kill()
    models = {name: read_model(folder) for name, folder in folders.items()}
    more = weights_bytes(models["large"], "float32") - weights_bytes(models["tiny"], "float32")
    kv = {name: tokens[name] * models[name].kv_bytes("float32") for name in folders}
    mib = 2**20
    grown = held["large"] - held["tiny"]
    cache = kv["large"] - kv["tiny"]
    with capsys.disabled():
        print(
            f"\nweights {more / mib:.1f} and KV {cache / mib:.1f} MiB more by the formula, "
            f"{grown / mib:.1f} held"
        )
    assert more + cache == pytest.approx(grown, rel=0.1)
