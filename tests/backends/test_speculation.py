"""Speculative decoding on rvc, with vLLM itself: the same tokens, and the acceptance of its counters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import adapters
from tests.backends.adapters import PROMPTS, TOKENS
from tests.backends.conformance import TEXT
from tests.backends.conftest import Launch
from tests.backends.reference import load
from tests.faults.sessions import Watched, request

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
LITTLE = ("--threads", "1", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "8")


def counters(page: str) -> dict[str, float]:
    """vLLM's counters of speculation: those of positions by ``name/position``."""
    found = {}
    for line in page.splitlines():
        if line.startswith("vllm:spec_decode_") and "_created" not in line:
            name, value = line.partition("{")[0].removeprefix("vllm:spec_decode_num_"), line.rsplit(" ", 1)[1]
            position = re.search(r'position="(\d+)"', line)
            key = name.removesuffix("_total")
            found[f"{key}/{position[1]}" if position else key] = float(value)
    return found


async def greedy(url: str, **body: Any) -> list[list[int]]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        answers = []
        for prompt in PROMPTS:
            asked = {
                "prompt": list(prompt),
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
                **body,
            }
            answer = await client.post(TEXT, json={**asked, "return_token_ids": True})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json()["choices"][0]["token_ids"])
        return answers


async def page_of(url: str) -> str:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        return (await client.get("/metrics")).text


async def test_the_tokens_are_the_same_and_the_acceptance_is_its_counters_growth(
    launch: Launch, tiny_model: Path, tmp_path: Path
) -> None:
    """The tokens are Transformers', which rvc without speculation says to the same prompts too
    (test_lora_rvc); with an adapter, where older releases of vLLM ended (vllm-project/vllm issue 20284)."""
    pytest.importorskip("vllm")
    model = load(tiny_model)[0]
    weights = adapters.tensors(model, 3)
    folder = tmp_path / "adapters"
    folder.mkdir()
    adapters.write(folder / "lora-3", weights)
    guessing = launch(
        *("rvc", "--lease", "--model", f"tiny={tiny_model}", *LITTLE, "--lora-dir", str(folder)),
        *("--engine-arg", f"speculative_config={json.dumps(NGRAM)}"),
    )
    assert await greedy(guessing.url) == adapters.greedy(model, PROMPTS, TOKENS)
    wanted = adapters.greedy(adapters.merged(model, weights), PROMPTS, TOKENS)
    assert await greedy(guessing.url, model="lora-3") == wanted
    before = counters(await page_of(guessing.url))
    assert before["accepted_tokens"] > 0
    workload = {"kind": "synthetic", "prompt_tokens": 40, "output_tokens": 96, "ignore_eos": True}
    phase = {"name": "hold", "concurrency": 4, "duration": "15s", "drain": "60s"}
    watched = Watched(request(guessing.url, tmp_path / "run", phase, workload=workload))
    await watched.until(lambda s: "acceptance_at/2" in s.figures, "acceptance by position")
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    grown = {name: value - before[name] for name, value in counters(await page_of(guessing.url)).items()}
    shown = next(s.figures for s in reversed(watched.seen) if "acceptance_at/2" in s.figures)
    assert shown["acceptance"] == pytest.approx(grown["accepted_tokens"] / grown["draft_tokens"], abs=0.02)
    for position in "012":
        share = grown[f"accepted_tokens_per_pos/{position}"] / grown["drafts"]
        assert shown[f"acceptance_at/{position}"] == pytest.approx(share, abs=0.02), position
    assert outcome.summary is not None
    server = outcome.summary["server"]
    assert server["draft_acceptance_rate"] == pytest.approx(shown["acceptance"], abs=0.02)
    assert set(server["draft_acceptance_by_position"]) == {"0", "1", "2"}
    print(shown, server["draft_acceptance_rate"], server["draft_acceptance_by_position"])
