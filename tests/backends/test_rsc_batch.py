"""Requests that the Hugging Face engine generates together: each is what it would be alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backends.engines.protocol import Delta, GenerateRequest
from backends.errors import EngineError
from tests.deferred import Deferred

if TYPE_CHECKING:
    from backends.engines.hf import HfEngine
    from backends.engines.hf_stream import Sequence

hf = Deferred("backends.engines.hf")

TEXTS = (
    "휴가는",
    "How many days of leave does an employee get, and who approves them?",
    "출장비는 어떻게 청구합니까?",
)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> HfEngine:
    engine = hf.load_engine(tiny_model, engine="hf", model_name="tiny", dtype="float32", concurrency=4)
    engine.warm_up()
    return engine


@pytest.fixture
def engine(loaded: HfEngine) -> Iterator[HfEngine]:
    """The engine; what collects batches is put away after the test."""
    yield loaded
    loaded.batcher = None


@pytest.fixture(scope="module")
def prompts(tiny_model: Path) -> list[tuple[int, ...]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return [tuple(tokenizer.encode(text)) for text in TEXTS]


def collect(engine: HfEngine, size: int) -> None:
    """Has every ``size`` requests computed together."""
    waiting: list[Sequence] = []

    def take(sequence: Sequence) -> None:
        waiting.append(sequence)
        if len(waiting) == size:
            running.add(asyncio.ensure_future(engine.compute_together(waiting.copy())))
            waiting.clear()

    running: set[Any] = set()
    engine.batcher = take


async def all_of(engine: HfEngine, request: GenerateRequest) -> list[Delta]:
    async with aclosing(engine.generate(request)) as deltas:
        return [delta async for delta in deltas]


def ids(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def test_together_is_what_each_is_alone(engine: HfEngine, prompts: list[tuple[int, ...]]) -> None:
    requests = [
        GenerateRequest("greedy", prompts[0], max_tokens=40, ignore_eos=True),
        GenerateRequest("short", prompts[1], max_tokens=5, ignore_eos=True),
        GenerateRequest("drawn", prompts[2], max_tokens=20, temperature=0.9, seed=4, ignore_eos=True),
    ]
    alone = [await all_of(engine, request) for request in requests]
    collect(engine, 3)
    together = await asyncio.gather(*(all_of(engine, request) for request in requests))
    assert len({len(prompt) for prompt in prompts}) == 3  # or nothing would be padded
    for one, other, request in zip(alone, together, requests, strict=True):
        assert ids(one) == ids(other)
        assert len(ids(other)) == request.max_tokens
        assert "".join(delta.text for delta in one) == "".join(delta.text for delta in other)
        finish = other[-1].finish
        assert finish is not None
        assert finish.reason == "length"
    state = await engine.state()
    assert (state.running, state.waiting, state.kv_bytes) == (0, 0, 0)


async def test_who_leaves_a_batch_is_free_at_once(engine: HfEngine, prompts: list[tuple[int, ...]]) -> None:
    collect(engine, 2)
    stays = asyncio.create_task(
        all_of(engine, GenerateRequest("stays", prompts[0], max_tokens=1500, ignore_eos=True))
    )
    leaving = GenerateRequest("leaves", prompts[1], max_tokens=1500, ignore_eos=True)
    async with aclosing(engine.generate(leaving)) as deltas:
        await anext(deltas)
        state = await engine.state()
        assert state.running == 2
        assert state.kv_bytes
    assert (await engine.state()).running == 1
    assert not stays.done()
    await engine.cancel("stays")
    with pytest.raises(EngineError, match="cancelled"):
        await stays


async def test_a_failure_is_told_to_the_whole_batch(
    engine: HfEngine, prompts: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of something")

    monkeypatch.setattr(engine, "_generate", fail)
    collect(engine, 2)
    requests = [GenerateRequest(f"r{n}", prompts[n], max_tokens=3) for n in range(2)]
    results = await asyncio.gather(*(all_of(engine, r) for r in requests), return_exceptions=True)
    assert [type(result) for result in results] == [EngineError, EngineError]
    assert all("out of something" in str(result) for result in results)
