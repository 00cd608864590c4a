"""The router with real HAProxy and engines that only pretend: who gets which request, and in what shape."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.api import arrival
from backends.router.haproxy_config import MAX_ROUTED_BODY_BYTES, quote
from tests.backends.fake_engine import FakeEngine
from tests.backends.router_bench import CHAT, TEXT, TOKEN, Bench, bench_of

ODD = 'org/o\'dd "$name" %x\\ #1'  # whatever a model may be called


@pytest.fixture
async def two() -> AsyncIterator[Bench]:
    """Model a on two engines, a model with an odd name on one."""
    async for bench in bench_of([("a", ["e0", "e1"]), (ODD, ["e2"])]):
        yield bench


@pytest.fixture
async def one() -> AsyncIterator[Bench]:
    async for bench in bench_of([("a", ["e0"])]):
        yield bench


async def test_a_request_goes_to_an_engine_of_its_model(two: Bench) -> None:
    assert await two.ask(model=ODD) == "e2"
    assert await two.ask(TEXT, model=ODD, prompt="x") == "e2"
    assert await two.ask(model="a") in ("e0", "e1")
    assert await two.ask() in ("e0", "e1")  # none named: the first, as everywhere
    assert await two.ask(model="") in ("e0", "e1")
    assert await two.ask(model=None) in ("e0", "e1")
    long = [{"role": "user", "content": 'a "model": "a" \\ 휴가 ' * 20_000}]
    assert await two.ask(messages=long, model=ODD) == "e2"  # at the end of a long body
    nested = {"messages": [{"model": "a"}], "extra": {"model": "a"}, "model": ODD}
    assert await two.ask(**nested) == "e2"


async def test_names_that_are_no_model_s_go_to_the_model_with_adapters() -> None:
    async for bench in bench_of([("a", ["e0"]), ("b", ["e1"])], adapters="b"):
        assert [await bench.ask(model=name) for name in ("a", "b", "lora-1", "nope")] == [
            "e0",
            "e1",
            "e1",
            "e1",
        ]
        assert await bench.ask() == "e0"
        assert await bench.ask(TEXT, model="lora-1", prompt="x") == "e1"
        assert await bench.ask("/tokenize", model="lora-1", prompt="x") == "e1"
        assert await bench.ask("/v1/embeddings", model="the embedder", input="x") == "e0"


async def test_tokens_go_by_model_and_embeddings_to_any_engine_of_the_first(two: Bench) -> None:
    assert await two.ask("/tokenize", model=ODD, prompt="x") == "e2"
    assert await two.ask("/detokenize", model=ODD, tokens=[1]) == "e2"
    assert await two.ask("/v1/embeddings", model="the embedder", input="x") in ("e0", "e1")


async def test_each_request_counts_for_its_model_also_on_one_connection(two: Bench) -> None:
    assert await two.router.arrived() == {"a": 0, ODD: 0}
    for _ in range(5):
        await two.ask(model="a")
    await two.ask(model=ODD)
    await two.ask(model="nope")
    assert await two.router.arrived() == {"a": 5, ODD: 1}
    await two.router.place("e2", None)
    refused = await two.client.post(CHAT, json={"model": ODD, "messages": []})
    assert refused.status_code == 503
    assert await two.router.arrived() == {"a": 5, ODD: 2}


async def test_what_no_engine_has_goes_to_the_control_endpoint(two: Bench) -> None:
    assert await two.ask(model="nope") == "control"
    assert await two.ask(model=f"{ODD}x") == "control"
    assert await two.ask(model=5) == "control"
    for path in ("/v1/models", "/health"):
        assert (await two.client.get(path)).status_code == 200
    assert (await two.client.get("/v1/models")).json()["by"] == "control"
    assert (await two.client.get(CHAT)).status_code == 405  # its answer, too
    assert not any(engine.requests for engine in two.engines)


async def test_broken_bodies_reach_an_engine_that_says_so(two: Bench) -> None:
    for body in (b"{oops", b"[]", b"", b"\xff\xfe"):
        answer = await two.client.post(CHAT, content=body)
        assert answer.headers["x-engine"] in ("e0", "e1")


async def test_a_body_too_long_to_route_goes_to_the_control_endpoint(two: Bench) -> None:
    """Which refuses it: see the fleet's tests."""
    body = json.dumps({"prompt": "x" * MAX_ROUTED_BODY_BYTES, "model": ODD})
    answer = await two.client.post(CHAT, content=body)
    assert answer.headers["x-engine"] == "control"
    assert two.control.requests[-1][1] == body.encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2**16):
            yield body[start : start + 2**16].encode()

    answer = await two.client.post(CHAT, content=chunks())  # its length is known only at its end
    assert answer.headers["x-engine"] == "control"
    fits = json.dumps({"prompt": "x" * (MAX_ROUTED_BODY_BYTES - 200), "model": ODD})
    assert (await two.client.post(CHAT, content=fits)).headers["x-engine"] == "e2"


async def test_one_model_takes_bodies_of_any_length(one: Bench) -> None:
    body = json.dumps({"prompt": "x" * (3 * MAX_ROUTED_BODY_BYTES), "model": "whatever"})
    answer = await one.client.post(CHAT, content=body)
    assert answer.headers["x-engine"] == "e0"
    assert one.engines[0].requests[-1][1] == body.encode()


async def test_the_engine_with_fewer_connections_is_next(two: Bench) -> None:
    for engine in two.engines[:2]:
        engine.hold = True
    first = asyncio.create_task(two.ask(model="a"))
    async with asyncio.timeout(120):
        while not (busy := [engine for engine in two.engines if engine.active]):
            await asyncio.sleep(0.01)
    idle = next(engine for engine in two.engines[:2] if engine is not busy[0])
    idle.hold = False
    for _ in range(5):
        assert await two.ask(model="a") == idle.name
    busy[0].hold = False
    busy[0].go.set()
    assert await first == busy[0].name


async def test_engines_get_the_runs_bearer_and_no_other(one: Bench) -> None:
    answer = await one.client.post(CHAT, json={}, headers={"Authorization": "Bearer the-clients-own"})
    assert answer.status_code == 200
    headers, _ = one.engines[0].requests[-1]
    assert headers["Authorization"] == f"Bearer {TOKEN}"


async def test_engines_are_told_when_a_request_came_to_the_router(one: Bench) -> None:
    for own in ({}, {arrival.HEADER: f"1790000000000000 {arrival.machine()}"}):
        before_us = time.time_ns() // 1000
        assert (await one.client.post(CHAT, json={}, headers=own)).status_code == 200
        headers = {name.lower(): value for name, value in one.engines[0].requests[-1][0].items()}
        stamp_us, machine = headers[arrival.HEADER].split()
        # HAProxy looks at the clock once a turn of its loop.
        assert before_us - 1_000_000 < int(stamp_us) <= time.time_ns() // 1000
        assert machine == arrival.machine()


async def test_the_bearer_is_in_no_file_and_no_argument(one: Bench) -> None:
    for path in one.router._folder.path.iterdir():
        if path.is_file():
            assert TOKEN not in path.read_text()
    assert TOKEN not in Path(f"/proc/{one.router.pid}/cmdline").read_text()


async def test_with_a_key_only_health_is_open() -> None:
    key = "s3cret'\"%k\\ey"
    async for bench in bench_of([("a", ["e0"])], api_key=key):
        assert (await bench.client.get("/health")).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": key}):
            answer = await bench.client.post(CHAT, json={"model": "a"}, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == 401
            assert (await bench.client.get("/v1/models", headers=headers)).status_code == 401
        good = {"Authorization": f"Bearer {key}"}
        assert (await bench.client.post(CHAT, json={"model": "a"}, headers=good)).status_code == 200
        assert (await bench.client.get("/v1/models", headers=good)).json()["by"] == "control"
        config = (bench.router._folder.path / "haproxy.cfg").read_text()
        assert "s3cret" not in config
        assert len(bench.engines[0].requests) == 1


async def test_parts_pass_as_they_come(one: Bench) -> None:
    """Each part is read before the engine is allowed to send the next: nothing waits for more."""
    engine = one.engines[0]
    engine.hold = True
    engine.go.set()
    async with asyncio.timeout(120), one.client.stream("POST", CHAT, json={}) as response:
        got = []
        async for line in response.aiter_lines():
            if line:
                got.append(line)
                engine.go.set()
    assert got == ["data: e0 0", "data: e0 1", "data: e0 2"]


@pytest.mark.parametrize("when", ["waiting", "streaming"])
async def test_a_client_that_goes_away_ends_its_request(one: Bench, when: str) -> None:
    engine = one.engines[0]
    engine.hold = True
    if when == "streaming":
        engine.go.set()
        async with one.client.stream("POST", CHAT, json={}) as response:
            await anext(response.aiter_lines())
    else:
        task = asyncio.create_task(one.client.post(CHAT, json={}))
        await asyncio.wait_for(engine.asked.wait(), 120)
        task.cancel()
    await asyncio.wait_for(engine.gone.wait(), 120)


def test_quoting() -> None:
    assert quote("it's") == "'it'\\''s'"
    with pytest.raises(ValueError, match="control character"):
        quote("a\nb")


async def test_an_engine_at_a_unix_socket_gets_all_paths_but_the_heads(tmp_path: Path) -> None:
    """As vLLM's own server stands behind the router: it comes, goes and comes back at the same socket."""
    at = str(tmp_path / "engine.sock")
    engine_socket = socket.socket(socket.AF_UNIX)
    engine_socket.bind(at)
    engine_socket.listen()
    engine_socket.setblocking(False)
    engine = await FakeEngine("e0").serve(engine_socket)
    try:
        async for bench in bench_of([("a", ["e0"])], place=False, sockets={"e0": at}, all_paths=True):
            assert await bench.ask(model="a") == "503"
            await bench.router.place("e0", at)
            assert await bench.ask(model="a") == "e0"
            answer = await bench.client.post("/v1/score", json={"model": "a", "prompt": "x"})
            assert (answer.status_code, len(bench.control.requests)) == (404, 0)  # the engine's answer
            assert (await bench.client.get("/v1/models")).json()["by"] == "control"
            assert (await bench.client.post("/reset_prefix_cache")).json()["by"] == "control"
            await bench.router.place("e0", None)
            assert await bench.ask(model="a") == "503"
            await bench.router.place("e0", at)
            assert await bench.ask(model="a") == "e0"
    finally:
        await engine.close()
