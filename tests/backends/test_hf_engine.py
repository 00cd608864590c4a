"""The Hugging Face engine itself, on a random two-layer Qwen2 made here: tokens, ends, cancelling, memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from backends.engines.protocol import Delta, EngineInfo, Finish, GenerateRequest
from backends.errors import EngineError, EngineUnavailable, UsageError
from tests.deferred import Deferred

if TYPE_CHECKING:
    from backends.engines.hf import HfEngine

torch = Deferred("torch")
transformers = Deferred("transformers")
hf = Deferred("backends.engines.hf")
hf_stream = Deferred("backends.engines.hf_stream")

PROMPT = (5, 6, 7, 8)
CONTEXT = 512
LAYERS, KV_HEADS, HEAD = 2, 2, 16
KV_BYTES_PER_TOKEN = 2 * LAYERS * KV_HEADS * HEAD * 4  # keys and values, float32


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(1)
    config = transformers.Qwen2Config(
        vocab_size=200,
        hidden_size=4 * HEAD,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.3,  # flat random weights would repeat one token for ever
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.Qwen2ForCausalLM(config).eval()


def decode(ids: list[int]) -> str:
    """Token n is the character at U+AC00 + n."""
    return "".join(chr(0xAC00 + token) for token in ids)


PARTS: Any = {
    "eos_ids": frozenset(),
    "eos_id": None,
    "decode": decode,
    "spell": lambda token: decode([token]),
}


def make(model: Any, *, concurrency: int = 1, eos: int | list[int] | None = None) -> HfEngine:
    model.generation_config = transformers.GenerationConfig(eos_token_id=eos, pad_token_id=0)
    info = EngineInfo("hf-0", "hf", "m", "n", 1, ("cpu",), "float32", concurrency, CONTEXT)
    first = eos[0] if isinstance(eos, list) else eos
    engine = hf.HfEngine(model, decode, info, eos_id=first, seed=3)
    engine.warm_up()
    return engine


def request(request_id: str = "r", **fields: Any) -> GenerateRequest:
    return GenerateRequest(request_id, PROMPT, **{"max_tokens": 16, **fields})


async def run(engine: HfEngine, **fields: Any) -> tuple[list[int], str, Finish]:
    ids, text, finish = [], "", None
    async with aclosing(engine.generate(request(**fields))) as deltas:
        async for delta in deltas:
            assert finish is None
            ids += delta.token_ids
            text += delta.text
            finish = delta.finish
    assert finish is not None
    return ids, text, finish


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not await condition():
            await asyncio.sleep(0.002)


async def test_greedy_is_generate(model: Any) -> None:
    engine = make(model)
    ids, text, finish = await run(engine, max_tokens=64)
    with torch.no_grad():
        wanted = model.generate(torch.tensor([PROMPT]), max_new_tokens=64, do_sample=False, pad_token_id=0)
    assert ids == wanted[0, len(PROMPT) :].tolist()
    assert len(set(ids)) >= 16  # else the comparison says little
    assert text == decode(ids)
    assert finish.reason == "length"
    assert finish.timings is not None
    assert all(value >= 0 for value in finish.timings)


async def test_logprobs_are_the_models_own_whatever_is_sampled(model: Any) -> None:
    """Before temperature and top_p, as vLLM tells them; beside another request that asks for none."""
    engine = make(model, concurrency=2)
    one: list[Any] = []
    other: list[Any] = []
    asked = request(logprobs=3, temperature=1.5, top_p=0.9, seed=4, ignore_eos=True)
    told = hf_stream.Sequence(asked, **PARTS, emit=one.append)
    untold = hf_stream.Sequence(request("other", temperature=0.7, seed=9), **PARTS, emit=other.append)
    await engine.compute_together([told, untold])
    ids = [delta.token_ids[0] for delta in one]
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPT, *ids]])).logits[0, len(PROMPT) - 1 : -1]
    wanted = torch.log_softmax(logits, dim=-1)
    for position, delta in enumerate(one):
        (own, *rest), row = delta.logprobs[0], wanted[position]
        assert own == (decode([ids[position]]), pytest.approx(row[ids[position]].item(), abs=1e-3))
        best = [token for token in row.topk(3).indices.tolist() if token != ids[position]]
        assert [text for text, _ in rest] == [decode([token]) for token in best]
    assert len(ids) == 16
    assert all(delta.logprobs is None for delta in other)


async def test_every_token_is_a_delta_of_its_own(model: Any) -> None:
    engine = make(model)
    deltas = [delta async for delta in engine.generate(request(max_tokens=9))]
    assert [len(delta.token_ids) for delta in deltas] == [1] * 9
    assert [delta.finish is None for delta in deltas] == [True] * 8 + [False]


async def test_the_end_token_is_counted_and_has_no_text(model: Any) -> None:
    plain, _, _ = await run(make(model))
    end = plain[5]
    at = plain.index(end)
    engine = make(model, eos=end)
    ids, text, finish = await run(engine)
    assert ids == plain[: at + 1]
    assert text == decode(plain[:at])
    assert (finish.reason, finish.stop_reason) == ("stop", None)
    ids, _, finish = await run(engine, ignore_eos=True)
    assert (ids, finish.reason) == (plain, "length")


async def test_a_second_end_token_says_which_it_was(model: Any) -> None:
    plain, _, _ = await run(make(model))
    end = plain[5]
    for fields, eos in (({}, [199, end]), ({"stop_token_ids": (end,)}, 199)):
        ids, _, finish = await run(make(model, eos=eos), **fields)
        assert ids == plain[: plain.index(end) + 1]
        assert (finish.reason, finish.stop_reason) == ("stop", end)


async def test_stop_strings(model: Any) -> None:
    plain, whole, _ = await run(make(model), max_tokens=32)
    stop = decode(plain[6:8])
    ids, text, finish = await run(make(model), max_tokens=32, stop=("never", stop))
    assert text == whole[: whole.index(stop)]
    assert (finish.reason, finish.stop_reason) == ("stop", stop)
    assert ids == plain[: len(ids)]
    assert len(ids) == whole.index(stop) + len(stop)


async def test_a_held_start_of_a_stop_string_comes_out_at_the_end(model: Any) -> None:
    _, whole, _ = await run(make(model), max_tokens=8)
    _, text, finish = await run(make(model), max_tokens=8, stop=(whole[-1] + "never",))
    assert (text, finish.reason) == (whole, "length")


async def test_seeds_repeat_also_side_by_side(model: Any) -> None:
    engine = make(model, concurrency=2)

    async def sample(request_id: str, seed: int | None) -> list[int]:
        return (await run(engine, request_id=request_id, temperature=1.0, seed=seed, max_tokens=24))[0]

    alone = await sample("a", 7)
    together = await asyncio.gather(sample("b", 7), sample("c", 8))
    assert together[0] == alone
    assert together[1] != alone
    assert await sample("d", None) != await sample("e", None)


def test_top_p_keeps_the_nucleus() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    sampler = hf_stream.SeededSampler(1.0, 0.7, 0, torch.device("cpu"))
    drawn = [int(sampler(torch.empty(0), scores).argmax()) for _ in range(400)]
    assert set(drawn) == {0, 1}
    everything = hf_stream.SeededSampler(1.0, 1.0, 0, torch.device("cpu"))
    counts = torch.bincount(
        torch.tensor([int(everything(torch.empty(0), scores).argmax()) for _ in range(4000)]), minlength=4
    )
    assert torch.allclose(counts / 4000, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.04)


def test_temperature_sharpens() -> None:
    scores = torch.log(torch.tensor([[0.6, 0.4]]))
    cold = hf_stream.SeededSampler(0.05, 1.0, 0, torch.device("cpu"))
    assert {int(cold(torch.empty(0), scores).argmax()) for _ in range(100)} == {0}


async def test_closing_the_stream_frees_the_engine(model: Any) -> None:
    engine = make(model)
    async with aclosing(engine.generate(request(max_tokens=400))) as deltas:
        await anext(deltas)
        state = await engine.state()
        assert (state.running, state.waiting) == (1, 0)
        assert state.kv_bytes >= len(PROMPT) * KV_BYTES_PER_TOKEN
    state = await engine.state()
    assert (state.running, state.waiting, state.kv_bytes) == (0, 0, 0)


async def test_capacity_is_what_full_sequences_would_take(model: Any) -> None:
    state = await make(model, concurrency=3).state()
    assert state.kv_capacity_bytes == 3 * CONTEXT * KV_BYTES_PER_TOKEN
    assert state.allocated_bytes is None
    assert state.reserved_bytes is None


async def test_what_does_not_fit_waits(model: Any) -> None:
    engine = make(model)

    async def long(request_id: str) -> None:
        async with aclosing(engine.generate(request(request_id, max_tokens=400))) as deltas:
            async for _ in deltas:
                pass

    tasks = [asyncio.create_task(long(f"r{n}")) for n in range(3)]

    async def full() -> bool:
        state = await engine.state()
        return (state.running, state.waiting) == (1, 2)

    async def empty() -> bool:
        state = await engine.state()
        return (state.running, state.waiting) == (0, 0)

    await until(full)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(empty)


async def test_cancel_by_id(model: Any) -> None:
    engine = make(model)
    await engine.cancel("unknown")
    with pytest.raises(EngineError, match="cancelled"):  # noqa: PT012
        async for _ in engine.generate(request("x", max_tokens=400)):
            await engine.cancel("x")
    assert len((await run(engine))[0]) == 16


async def test_a_failure_is_its_own_requests(model: Any) -> None:
    engine = make(model)
    with pytest.raises(EngineError, match="generation failed"):
        await run(engine, request_id="bad", temperature=1.0, seed=2**70)
    assert len((await run(engine))[0]) == 16


async def test_an_id_is_taken_once(model: Any) -> None:
    engine = make(model)
    async with aclosing(engine.generate(request("same", max_tokens=400))) as deltas:
        await anext(deltas)
        with pytest.raises(EngineError, match="already"):
            await run(engine, request_id="same")


async def test_closing_the_engine_ends_everything(model: Any) -> None:
    engine = make(model)
    seen: list[Delta] = []

    async def read() -> None:
        async for delta in engine.generate(request("x", max_tokens=400)):
            seen.append(delta)

    tasks = [asyncio.create_task(read())]

    async def started() -> bool:
        return bool(seen)

    await until(started)
    tasks.append(asyncio.create_task(run(engine, request_id="waits")))
    await asyncio.sleep(0)
    await engine.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [EngineUnavailable, EngineUnavailable]
    with pytest.raises(EngineUnavailable):
        await run(engine)
    assert (await engine.state()).status == "stopped"


def test_context_length(model: Any) -> None:
    assert hf.context_length(model.config, None) == CONTEXT
    assert hf.context_length(model.config, 100) == 100
    with pytest.raises(UsageError, match="--max-model-len"):
        hf.context_length(model.config, CONTEXT + 1)
