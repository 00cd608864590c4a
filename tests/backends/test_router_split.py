"""A name for several models, with real HAProxy and engines that only pretend."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from backends.router.split import ARM_HEADER
from backends.settings.split import Arm, Split, SplitOptions, point_of
from tests.backends.router_bench import CHAT, Bench, bench_of

MODELS = [("v1", ["e0"]), ("v2", ["e1"])]
CANARY = Split("chat", (Arm("v1", 90), Arm("v2", 10)))
SIZES = (("7b", "v1"), ("70b", "v2"))


def options(*, fallback: bool = False) -> SplitOptions:
    return SplitOptions((CANARY,), fallback=fallback, sizes=SIZES)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async for made in bench_of(MODELS, splits=options()):
        yield made


async def arm_of(bench: Bench, model: str = "chat", **headers: str) -> str:
    """Which arm says that it answered, which the engine that did confirms."""
    answer = await bench.client.post(CHAT, json={"model": model}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-engine"] == {"v1": "e0", "v2": "e1"}[answer.headers[ARM_HEADER]]
    return answer.headers[ARM_HEADER]


async def arms_of(bench: Bench, headers: list[dict[str, str]]) -> list[str]:
    """Of many requests, some at a time. (By aiohttp, which costs a third of the bench's own client.)"""
    engines = {"v1": "e0", "v2": "e1"}
    connector = aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(str(bench.client.base_url), connector=connector) as http:

        async def one(more: dict[str, str]) -> str:
            async with http.post(CHAT, json={"model": "chat"}, headers=more) as answer:
                assert answer.status == 200, await answer.text()
                assert answer.headers["x-engine"] == engines[answer.headers[ARM_HEADER]]
                return answer.headers[ARM_HEADER]

        return list(await asyncio.gather(*(one(more) for more in headers)))


async def test_2000_requests_at_90_to_10(bench: Bench) -> None:
    """99.99 % of all draws lie in this interval; with ids of their own it is the same draw each time."""
    counts = Counter(await arms_of(bench, [{"x-request-id": f"r-{number}"} for number in range(2000)]))
    assert counts["v1"] + counts["v2"] == 2000
    assert 148 <= counts["v2"] <= 252
    assert all(point_of(f"r-{number}".encode()) < 10_000 for number in range(10))


async def test_requests_without_an_id_are_split_too(bench: Bench) -> None:
    counts = Counter(await arms_of(bench, [{}] * 400))
    assert 10 <= counts["v2"] <= 80


async def test_a_share_counts_at_once_20_times(bench: Bench) -> None:
    for turn in range(20):
        share = (0.0, 100.0)[turn % 2]
        began = time.monotonic()
        await bench.router.weigh(CANARY.changed({"v2": share}))
        arms = await arms_of(bench, [{"x-request-id": f"{turn}-{number}"} for number in range(20)])
        assert set(arms) == {"v2" if share else "v1"}
        assert time.monotonic() - began < 30  # and not by a reload: the process is the same
    assert bench.router.pid is not None


async def test_a_session_stays_on_its_arm_whatever_grows(bench: Bench) -> None:
    sessions = [{"x-session-id": f"s-{number}"} for number in range(200)]
    turns = [await arms_of(bench, sessions) for _ in range(3)]
    await bench.router.weigh(CANARY.changed({"v2": 50}))
    turns += [await arms_of(bench, sessions) for _ in range(2)]
    assert all(turn == turns[0] for turn in turns)
    assert 5 <= turns[0].count("v2") <= 45
    fresh = await arms_of(bench, [{"x-session-id": f"t-{number}"} for number in range(200)])
    assert 60 <= fresh.count("v2") <= 140
    await bench.router.weigh(CANARY.changed({"v2": 0}))  # taken back: its sessions go, too
    assert set(await arms_of(bench, sessions)) == {"v1"}


async def test_a_router_that_was_killed_splits_as_it_did(bench: Bench) -> None:
    await bench.router.weigh(CANARY.changed({"v2": 100}))
    first = bench.router.pid
    assert bench.router._process is not None
    bench.router._process.kill()
    async with asyncio.timeout(60):
        while bench.router.pid in (None, first):
            await asyncio.sleep(0.02)
    assert await arm_of(bench) == "v2"


async def test_without_fallback_an_arm_that_is_down_answers_503_alone(bench: Bench) -> None:
    await bench.router.place("e1", None)
    sent = [{"x-request-id": f"r-{number}"} for number in range(100)]
    answers = [await bench.client.post(CHAT, json={"model": "chat"}, headers=more) for more in sent]
    for more, answer in zip(sent, answers, strict=True):
        arm = "v2" if point_of(more["x-request-id"].encode()) < 1000 else "v1"
        assert answer.headers[ARM_HEADER] == arm
        assert answer.status_code == (503 if arm == "v2" else 200)
    assert await bench.ask(model="v1") == "e0"


async def test_with_fallback_the_other_arm_answers() -> None:
    async for bench in bench_of(MODELS, splits=options(fallback=True)):
        await bench.router.weigh(CANARY.changed({"v2": 100}))
        assert await arm_of(bench) == "v2"
        await bench.router.place("e1", None)
        assert set(await arms_of(bench, [{"x-session-id": f"s-{n}"} for n in range(20)])) == {"v1"}
        await bench.router.place("e1", bench.engines[1].address)
        assert set(await arms_of(bench, [{"x-session-id": f"s-{n}"} for n in range(20)])) == {"v2"}
        await bench.router.admit("v2", False)  # its slot is there, and it is not
        assert set(await arms_of(bench, [{}] * 20)) == {"v1"}
        await bench.router.admit("v2", True)
        assert set(await arms_of(bench, [{}] * 20)) == {"v2"}
        await bench.router.place("e0", None)
        await bench.router.place("e1", None)
        assert await bench.ask(model="chat") == "503"


async def test_a_size_in_place_of_a_name(bench: Bench) -> None:
    assert await bench.ask(model_size="70b") == "e1"
    assert await bench.ask(model="", model_size="7B") == "e0"
    assert await bench.ask(model="v1", model_size="70b") == "e0"  # the name counts
    assert await bench.ask(model_size="13b") == "control"
    assert await bench.ask(model="nope") == "control"
    assert ARM_HEADER not in (await bench.client.post(CHAT, json={"model": "v1"})).headers


async def test_odd_names_and_three_arms() -> None:
    odd = 'org/o\'dd "$name" %x\\ #1'
    split = Split(odd + "!", (Arm("v1", 20), Arm(odd, 40), Arm("v3", 40)))
    models = [("v1", ["e0"]), (odd, ["e1"]), ("v3", ["e2"])]
    async for bench in bench_of(models, splits=SplitOptions((split,))):
        await bench.router.weigh(split.changed({odd: 100}))
        answer = await bench.client.post(CHAT, json={"model": odd + "!"})
        assert (answer.headers["x-engine"], answer.headers[ARM_HEADER]) == ("e1", odd)
