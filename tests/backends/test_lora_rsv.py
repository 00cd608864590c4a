"""Adapters of a local folder on rsv, which Ray Serve LLM itself does not load: the same answers as on rvc, by
their own names and by Ray's."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from tests.backends import adapters
from tests.backends.conformance import TEXT
from tests.backends.conftest import Launch
from tests.backends.reference import load

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

TOKENS, GONE_S = 24, 30.0
PROMPT = tuple(range(40, 47))


async def test_adapters_serve_by_name_from_a_local_folder(
    launch: Launch, tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.llm")
    before = copies()
    folder = tmp_path / "adapters"
    folder.mkdir()
    model = load(tiny_model)[0]
    weights = {f"lora-{n}": adapters.tensors(model, n) for n in range(4)}
    wanted = {"tiny": adapters.greedy(model, [PROMPT], TOKENS)[0]}
    for name, tensors in weights.items():
        wanted[name] = adapters.greedy(adapters.merged(model, tensors), [PROMPT], TOKENS)[0]
    adapters.write(folder / "lora-0", weights["lora-0"])
    bad = adapters.write(folder / "cut", weights["lora-1"]) / "adapter_model.safetensors"
    bad.write_bytes(bad.read_bytes()[:-100])
    backend = launch(
        *("rsv", "--lease", "--model", f"tiny={tiny_model}", "--lora-dir", str(folder)),
        *("--threads", "1", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "8"),
        *("--gpu-memory-utilization", "0.2", "--engine-arg", "max_loras=2"),
    )
    async with httpx.AsyncClient(base_url=backend.url, timeout=120, trust_env=False) as client:

        async def ask(name: str) -> httpx.Response:
            body = {"model": name, "prompt": list(PROMPT), "max_tokens": TOKENS, "temperature": 0}
            return await client.post(TEXT, json={**body, "ignore_eos": True, "return_token_ids": True})

        async def said(name: str) -> list[int]:
            answer = await ask(name)
            assert answer.status_code == 200, answer.text
            return list(answer.json()["choices"][0]["token_ids"])

        assert await said("tiny") == wanted["tiny"]
        assert await said("lora-0") == await said("tiny:lora-0") == wanted["lora-0"]
        assert (await ask("lora-1")).status_code == 404
        for name in ("lora-1", "lora-2", "lora-3"):
            adapters.write(folder / name, weights[name])
            assert await said(name) == wanted[name], name
        refused = await ask("cut")
        assert refused.status_code == 400
        assert str(bad) in refused.text
        assert {name: await said(name) for name in wanted} == wanted
        cards = {card["id"]: card["parent"] for card in (await client.get("/v1/models")).json()["data"]}
        assert cards == {"tiny": None, "cut": "tiny"} | dict.fromkeys(weights, "tiny")
        engines = (await client.get("/rvtop/topology")).json()["engines"]
        assert [row["max_loras"] for row in engines] == [2]
    made = copies() - before
    assert made
    backend.kill()
    until = time.monotonic() + GONE_S
    while left := made & copies():
        assert time.monotonic() < until, left
        await asyncio.sleep(0.1)


def copies() -> set[Path]:
    """The folders with copies of adapters that are there."""
    return set(Path(tempfile.gettempdir()).glob("rvtop-lora-*"))
