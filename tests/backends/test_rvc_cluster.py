"""RVC as a guest on someone's cluster of two nodes: an engine on each, one node lost and another one gained,
and at the end nothing of ours is left there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import chat
from tests.backends.node_loss import lose_a_node, topology
from tests.backends.someones_cluster import SomeonesCluster, started

BACK_LIMIT_S = 240.0
ORPHAN_LIMIT_S = 15.0


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SomeonesCluster]:
    cluster = started(tmp_path_factory)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def rvc(
    theirs: SomeonesCluster, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rvc", "--lease", "--model", f"tiny={tiny_model}", "--ray-address", theirs.address),
        *("--placement", "spread", "--threads", "1", "--dtype", "float32"),
        log=tmp_path_factory.mktemp("rvc") / "rvc.log",
        env=theirs.env,
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rvc: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rvc.url, timeout=60, trust_env=False) as client:
        yield client


async def states(client: httpx.AsyncClient) -> list[str]:
    return [engine["state"] for engine in (await topology(client))["engines"]]


async def test_a_node_is_lost_and_another_one_comes(
    client: httpx.AsyncClient, theirs: SomeonesCluster, tmp_path: Path
) -> None:
    before = await topology(client)
    nodes = {node["id"]: node for node in before["nodes"]}
    engines = {engine["node_id"]: engine for engine in before["engines"]}
    assert set(nodes) == set(engines)  # one on each
    assert len(nodes) == 2
    for engine in engines.values():
        assert urlsplit(engine["url"]).hostname == nodes[engine["node_id"]]["address"]
    (lost,) = [node for node in nodes.values() if not node["head"]]

    loss = await lose_a_node(
        client,
        theirs,
        tmp_path / "run",
        seconds=4,
        tokens=1000,
        busy=lambda rows: all(row.get("in_flight", 0) >= 2 for row in rows.values()),
    )
    assert loss.engine == engines[lost["id"]]["engine"]
    # Had the answer begun, it is cut; had it not, the router says so.
    assert set(loss.errors) <= {"truncated", "reset", "http_502"}
    print("rvc, a node lost:", loss.summary["requests"])
    survivor = engines[before["nodes"][0]["id"]]["engine"]
    async with asyncio.timeout(BACK_LIMIT_S):
        while sorted(await states(client)) != ["ready", "restarting"]:
            await asyncio.sleep(0.1)
    assert (await client.get("/health")).status_code == 200  # the model still has an engine
    for _ in range(4):
        answer = await chat(client, rvtop={"timings": True})
        assert answer["usage"]["rvtop"]["engine"] == survivor
    async with asyncio.timeout(BACK_LIMIT_S):
        while lost["id"] in {node["id"] for node in (await topology(client))["nodes"]}:
            await asyncio.sleep(0.1)

    await asyncio.to_thread(theirs.ask, "add")
    async with asyncio.timeout(BACK_LIMIT_S):
        while await states(client) != ["ready", "ready"]:
            await asyncio.sleep(0.2)
    after = await topology(client)
    assert len({engine["node_id"] for engine in after["engines"]}) == 2
    assert lost["id"] not in {engine["node_id"] for engine in after["engines"]}
    used = {(await chat(client, rvtop={"timings": True}))["usage"]["rvtop"]["engine"] for _ in range(8)}
    assert used == {"vllm-0", "vllm-1"}


async def test_a_killed_parent_leaves_nothing_on_their_cluster(
    client: httpx.AsyncClient, rvc: BackendProcess, theirs: SomeonesCluster
) -> None:
    pids = [engine["pid"] for engine in (await topology(client))["engines"]]
    ours = [process for pid in pids for process in processes.family(pid)]
    cores = [process for process in ours if process.name == "VLLM::EngineCor"]
    assert len(cores) == 2
    ours += processes.named(rvc.pid, "haproxy")
    paths = {path for path in processes.folders(ours) if "-eng-" in path.name or "-rtr-" in path.name}
    assert len(paths) == 3
    rvc.process.kill()
    processes.wait_until_gone(ours, paths, ORPHAN_LIMIT_S)
    assert await asyncio.to_thread(theirs.ask, "add") == {}  # theirs goes on
