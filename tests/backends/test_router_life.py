"""The router when engines come and go, and when it or its owner is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from backends.cli import bind
from backends.errors import StartFailure
from backends.router.router import Router
from tests.backends.router_bench import CHAT, Bench, bench_of


@pytest.fixture
async def empty() -> AsyncIterator[Bench]:
    async for bench in bench_of([("a", ["e0", "e1"])], place=False):
        yield bench


@pytest.fixture
async def pair() -> AsyncIterator[Bench]:
    async for bench in bench_of([("a", ["e0", "e1"])]):
        yield bench


@pytest.fixture
async def one() -> AsyncIterator[Bench]:
    async for bench in bench_of([("a", ["e0"])]):
        yield bench


async def answers(bench: Bench, wanted: str) -> None:
    """Waits until a request is answered by this engine, or with this status."""
    async with asyncio.timeout(120):
        while await bench.ask(model="a") != wanted:
            await asyncio.sleep(0.02)


def shaped(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status


async def test_without_an_engine_503(empty: Bench) -> None:
    answer = await empty.client.post(CHAT, json={"model": "a"})
    shaped(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert (await empty.client.get("/v1/models")).status_code == 200


async def test_engines_come_and_go(empty: Bench) -> None:
    first, second = empty.engines
    await empty.router.place("e0", first.address)
    assert {await empty.ask() for _ in range(4)} == {"e0"}
    await empty.router.place("e1", second.address)
    assert {await empty.ask() for _ in range(8)} == {"e0", "e1"}
    await empty.router.place("e0", None)
    assert {await empty.ask() for _ in range(4)} == {"e1"}
    await empty.router.place("e0", second.address)  # an engine that came back elsewhere
    assert {await empty.ask() for _ in range(4)} == {"e1"}
    await empty.router.place("e1", None)
    assert await empty.ask() == "e1"
    await empty.router.place("e0", None)
    assert await empty.ask() == "503"


async def test_what_runs_on_an_engine_that_is_taken_out_is_cut(one: Bench) -> None:
    """A node that is cut off sends nothing any more, not even the end of its connections."""
    engine = one.engines[0]
    engine.hold = True
    engine.go.set()
    async with asyncio.timeout(120), one.client.stream("POST", CHAT, json={}) as response:
        parts = response.aiter_bytes()
        await anext(parts)
        await one.router.place("e0", None)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_an_engine_that_moves_ends_what_it_has_and_gets_nothing_more(empty: Bench) -> None:
    """Its successor takes its slot, also from connections that were kept open to it."""
    before, after = empty.engines
    await empty.router.place("e0", before.address)
    assert {await empty.ask() for _ in range(4)} == {"e0"}
    before.hold = True
    before.go.set()
    async with asyncio.timeout(120), empty.client.stream("POST", CHAT, json={}) as response:
        lines = response.aiter_lines()
        await anext(lines)
        asked = len(before.requests)
        await empty.router.place("e0", after.address)
        assert {await empty.ask() for _ in range(20)} == {"e1"}
        assert len(before.requests) == asked
        before.hold = False
        before.go.set()
        assert [line async for line in lines if line][-1] == "data: e0 2"


async def test_an_engine_that_ends_before_it_answers_is_502(one: Bench) -> None:
    one.engines[0].hold = True
    task = asyncio.create_task(one.client.post(CHAT, json={}))
    await asyncio.wait_for(one.engines[0].asked.wait(), 120)
    await one.engines[0].close()
    shaped(await task, 502)
    shaped(await one.client.post(CHAT, json={}), 503)


async def test_a_request_that_reached_no_engine_goes_to_another(pair: Bench) -> None:
    await pair.engines[0].close()  # and nobody told the router
    assert {await pair.ask() for _ in range(6)} == {"e1"}


async def test_an_engine_that_says_it_is_ill_is_left_alone(pair: Bench) -> None:
    pair.engines[0].healthy = False
    async with asyncio.timeout(120):
        while {await pair.ask() for _ in range(4)} != {"e1"}:
            await asyncio.sleep(0.1)
    pair.engines[0].healthy = True
    await answers(pair, "e0")


async def test_a_killed_router_comes_back_with_its_engines(pair: Bench) -> None:
    old = pair.router.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    # Connections wait on the head's socket, save one that the kernel had already given to the old one.
    async with asyncio.timeout(120):
        while True:
            try:
                assert await pair.ask() in ("e0", "e1")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.02)
    async with asyncio.timeout(120):
        while pair.router.pid in (None, old):
            await asyncio.sleep(0.02)
    assert {await pair.ask() for _ in range(8)} == {"e0", "e1"}


async def test_after_the_end_nothing_listens_and_what_runs_goes_on(one: Bench) -> None:
    engine = one.engines[0]
    engine.hold = True
    engine.go.set()
    async with asyncio.timeout(120), one.client.stream("POST", CHAT, json={}) as response:
        lines = response.aiter_lines()
        await anext(lines)
        one.router.stop_listening()
        while True:
            try:
                async with httpx.AsyncClient(trust_env=False) as other:
                    await other.get(one.client.base_url)
            except httpx.ConnectError:
                break
            await asyncio.sleep(0.02)
        engine.hold = False
        engine.go.set()
        assert [line async for line in lines if line][-1] == "data: e0 2"


async def test_no_haproxy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/no/such/haproxy")
    router = Router(bind("127.0.0.1", 0), [("a", ["e0"])], token="t")
    try:
        with pytest.raises(StartFailure, match=r"/no/such/haproxy.*pip install"):
            await router.start()
    finally:
        await router.close()
    assert not router._folder.path.exists()


OWNER = """
import asyncio
from backends.cli import bind
from backends.router.router import Router

async def main():
    router = Router(bind("127.0.0.1", 0), [("a", ["e0"])], token="t")
    await router.start()
    print(router.pid, router._folder.path, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_it_dies_with_its_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        assert Path(folder, "admin.sock").exists()
        owner.kill()
        owner.wait()
        for path in (Path(f"/proc/{pid}"), Path(folder)):
            for _ in range(12_000):
                if not path.exists():
                    break
                signal.sigtimedwait([], 0.01)
            assert not path.exists()
    finally:
        owner.kill()
