"""Adapters on rvc, with vLLM itself: each says what Transformers says with its weights merged, also when more
of them are asked for than fit; new ones serve at once, and bad ones hurt nobody."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from rvtop.scenario.load import scenario_from
from rvtop.session.request import SessionRequest
from tests.backends import adapters
from tests.backends.adapters import PROMPTS, TOKENS
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import TEXT
from tests.backends.reference import load
from tests.faults.sessions import Watched

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

COUNT = 16
#: A new folder is to serve within so much.
NEW_LIMIT_S = 1.0


@dataclass
class World:
    """A server with two models, adapters of the first, and what each name must answer to PROMPTS."""

    process: BackendProcess
    folder: Path
    model: Any
    wanted: dict[str, list[list[int]]]


@pytest.fixture(scope="module")
def world(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    pytest.importorskip("vllm")
    at = tmp_path_factory.mktemp("lora")
    folder = at / "adapters"
    folder.mkdir()
    model = load(tiny_model)[0]
    wanted = {"tiny": adapters.greedy(model, PROMPTS, TOKENS)}
    for number in range(COUNT):
        name = f"lora-{number}"
        weights = adapters.tensors(model, number)
        adapters.write(folder / name, weights)
        wanted[name] = adapters.greedy(adapters.merged(model, weights), PROMPTS, TOKENS)
    process = BackendProcess(
        *("rvc", "--lease", "--model", f"tiny={tiny_model}", "--model", f"other={tiny_model}"),
        *("--dtype", "float32", "--threads", "1", "--max-model-len", "512", "--max-num-seqs", "16"),
        *("--lora-dir", f"tiny={folder}", "--engine-arg", "max_loras=2", "--engine-arg", "max_cpu_loras=3"),
        log=at / "rvc.log",
    )
    yield World(process, folder, model, wanted)
    process.kill()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.process.url, timeout=120, trust_env=False) as client:
        yield client


async def ask(client: httpx.AsyncClient, model: str, prompt: int = 0) -> httpx.Response:
    body = {"model": model, "prompt": list(PROMPTS[prompt]), "max_tokens": TOKENS, "temperature": 0}
    return await client.post(TEXT, json={**body, "ignore_eos": True, "return_token_ids": True})


async def said(client: httpx.AsyncClient, model: str, prompt: int = 0) -> list[int]:
    answer = await ask(client, model, prompt)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return list(answer.json()["choices"][0]["token_ids"])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["message"])


async def test_each_adapter_says_what_its_merged_weights_say(world: World, client: httpx.AsyncClient) -> None:
    assert len({json.dumps(answers) for answers in world.wanted.values()}) == COUNT + 1
    for name, answers in world.wanted.items():
        assert [await said(client, name, prompt) for prompt in range(len(PROMPTS))] == answers, name


async def test_none_is_another_ones_answer_while_16_share_2_places(
    world: World, client: httpx.AsyncClient
) -> None:
    async def one(name: str, prompt: int) -> str | None:
        got = await said(client, name, prompt)
        if got == world.wanted[name][prompt]:
            return None
        whose = [other for other, answers in world.wanted.items() if answers[prompt] == got]
        return f"{name} answered as {whose or 'nobody'}"

    jobs = [one(name, n % 3) for n in range(12) for name in world.wanted]
    wrong = [found for found in await asyncio.gather(*jobs) if found]
    assert not wrong, wrong[:5]
    page = (await client.get("/metrics")).text
    assert "vllm:lora_requests_info" in page
    assert "@" not in "".join(line for line in page.splitlines() if "lora_requests_info" in line)


async def test_a_load_by_share_has_figures_of_each_adapter(world: World, tmp_path: Path) -> None:
    data = {
        "name": "mix",
        "seed": 7,
        "models": {"tiny": 0.5, "lora-*": 0.5},
        "workload": {"kind": "synthetic", "prompt_tokens": 20, "output_tokens": 24, "ignore_eos": True},
        "phases": [{"name": "hold", "concurrency": 8, "requests": 120}],
    }
    url = world.process.url
    watched = Watched(SessionRequest(scenario_from(data, "mix"), tmp_path / "run", url=url))
    s = await watched.until(
        lambda s: any(key.startswith("adapters_running/") for key in s.figures), "adapters"
    )
    assert {key.partition("/")[2] for key in s.figures if key.startswith("adapters_")} <= set(world.wanted)
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    counts = Counter(row["model"] for row in watched.rows() if row["error"] is None)
    assert {name: one["requests"]["ok"] for name, one in outcome.summary["by_model"].items()} == counts
    assert set(counts) == set(world.wanted)
    assert sum(counts.values()) == 120
    assert {arm.name: (arm.kind, arm.ok) for arm in watched.now.arms} == {
        name: ("model", count) for name, count in counts.items()
    }
    engines = json.loads((tmp_path / "run" / "environment.json").read_text())["target_engines"]
    assert [(one["dtype"], one.get("max_loras")) for one in engines] == [("float32", 2), ("float32", None)]


async def test_adapters_are_listed_below_their_model(world: World, client: httpx.AsyncClient) -> None:
    cards = {card["id"]: card for card in (await client.get("/v1/models")).json()["data"]}
    assert cards["tiny"]["parent"] is None
    assert {name: card["parent"] for name, card in cards.items() if name.startswith("lora-")} == {
        f"lora-{n}": "tiny" for n in range(COUNT)
    }


async def test_one_that_is_dropped_into_the_folder_serves_at_once(
    world: World, client: httpx.AsyncClient
) -> None:
    assert refusal(await ask(client, "fresh"))[0] == 404
    weights = adapters.tensors(world.model, 99)
    wanted = adapters.greedy(adapters.merged(world.model, weights), PROMPTS[:1], TOKENS)[0]
    adapters.write(world.folder / "fresh", weights)
    began = time.monotonic()
    assert await said(client, "fresh") == wanted
    assert time.monotonic() - began < NEW_LIMIT_S * 10  # a busy machine; 20 ms here
    assert "fresh" in [card["id"] for card in (await client.get("/v1/models")).json()["data"]]
    # Others of the same name later: nothing is kept of the old one, prefixes neither.
    shutil.rmtree(world.folder / "fresh")
    assert refusal(await ask(client, "fresh"))[0] == 404
    weights = adapters.tensors(world.model, 98)
    adapters.write(world.folder / "fresh", weights)
    assert (
        await said(client, "fresh")
        == adapters.greedy(adapters.merged(world.model, weights), PROMPTS[:1], TOKENS)[0]
    )


async def test_bad_ones_are_refused_with_their_file_and_hurt_nobody(
    world: World, client: httpx.AsyncClient
) -> None:
    weights = adapters.tensors(world.model, 5)
    bad = {name: adapters.write(world.folder / name, weights) for name in ("cut", "text", "gone", "noise")}
    for name, more in {"wide": {"rank": 64}, "dora": {"use_dora": True}}.items():
        made = adapters.tensors(world.model, 5, rank=more.get("rank", adapters.RANK))
        bad[name] = adapters.write(world.folder / name, made, **more)
    whole = (bad["cut"] / "adapter_model.safetensors").read_bytes()
    (bad["cut"] / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    (bad["text"] / "adapter_config.json").write_text("{")
    (bad["gone"] / "adapter_model.safetensors").unlink()
    (bad["noise"] / "adapter_model.safetensors").write_bytes(b"\xff" * 4096)
    engines = (await client.get("/rvtop/topology")).json()["engines"]
    steady = [asyncio.create_task(said(client, "lora-3", n % 3)) for n in range(12)]
    says = {name: refusal(answer) for name in bad for answer in [await ask(client, name)]}
    assert {name: status for name, (status, _) in says.items()} == dict.fromkeys(bad, 400), says
    config, safetensors = "adapter_config.json", "adapter_model.safetensors"
    named = {"cut": safetensors, "text": config, "gone": safetensors, "noise": safetensors}
    for name, file in (named | {"wide": config, "dora": config}).items():
        assert str(bad[name] / file) in says[name][1], says[name]
        assert "\n" not in says[name][1]
    assert [await task for task in steady] == [world.wanted["lora-3"][n % 3] for n in range(12)]
    after = (await client.get("/rvtop/topology")).json()["engines"]
    assert [row["restarts"] for row in after] == [row["restarts"] for row in engines] == [0, 0]


async def test_files_that_go_while_their_adapter_serves_end_nothing(
    world: World, client: httpx.AsyncClient
) -> None:
    weights = adapters.tensors(world.model, 7)
    wanted = adapters.greedy(adapters.merged(world.model, weights), PROMPTS, TOKENS)
    adapters.write(world.folder / "brief", weights)
    assert await said(client, "brief") == wanted[0]
    running = [asyncio.create_task(said(client, "brief", n % 3)) for n in range(6)]
    others = [asyncio.create_task(said(client, f"lora-{n}")) for n in range(COUNT)]
    await asyncio.sleep(0.02)
    (world.folder / "brief" / "adapter_model.safetensors").write_bytes(b"")
    got = await asyncio.gather(*running, *others, return_exceptions=True)
    assert got[6:] == [world.wanted[f"lora-{n}"][0] for n in range(COUNT)]
    refused = [answer for answer in got[:6] if isinstance(answer, AssertionError)]
    assert [answer for answer in got[:6] if answer not in refused] == [
        wanted[n % 3] for n, answer in enumerate(got[:6]) if answer not in refused
    ]
    assert refusal(await ask(client, "brief"))[0] == 400


async def test_names_that_are_none_are_unknown(client: httpx.AsyncClient) -> None:
    for name in ("lora-99", "../adapters/lora-1", ".", "..", "lora-1/", "tiny:lora-1", "x" * 300):
        assert refusal(await ask(client, name))[0] == 404, name
