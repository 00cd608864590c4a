"""A worker node that is cut off, whose disk is full, whose clock is set: each is said in one line within
five seconds, the engine on the other node answers, and every request is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.namespaced_node import HEAD_IP, NamespacedNode, network, node
from tests.backends.someones_cluster import SomeonesCluster
from tests.backends.under_load import SAID_LIMIT_S, Load, facts, loaded

RATE_RPS = 10
NODES_LIMIT_S = 90.0
MENDED_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[tuple[SomeonesCluster, NamespacedNode]]:
    with network():
        theirs = SomeonesCluster(folder, head_ip=HEAD_IP)
        try:
            with node(theirs.address, Path(theirs.env["RAY_TMPDIR"]), folder, theirs.auth) as started:
                theirs.ask("wait 2")
                yield theirs, started
        finally:
            theirs.close()


@pytest.fixture(scope="module")
def rsc(
    worker: tuple[SomeonesCluster, NamespacedNode], tiny_model: Path, folder: Path
) -> Iterator[BackendProcess]:
    theirs, _ = worker
    backend = BackendProcess(
        *("rsc", "--lease", "--model", f"tiny={tiny_model}", "--threads", "1"),
        *("--num-replicas", "2", "--ray-address", theirs.address),
        log=folder / "backend.log",
        env=theirs.env,
    )
    yield backend
    backend.kill()


async def answered(load: Load, more: int) -> None:
    ok = load.session.snapshot().load.ok
    async with asyncio.timeout(SAID_LIMIT_S + 60):
        while load.session.snapshot().load.ok < ok + more:
            await asyncio.sleep(0.05)


async def test_a_clock_that_is_set(
    rsc: BackendProcess, worker: tuple[SomeonesCluster, NamespacedNode], tmp_path: Path
) -> None:
    url = await asyncio.to_thread(lambda: rsc.url)
    async with loaded(url, tmp_path / "run", rate=RATE_RPS, seconds=20) as load:
        worker[1].set_clock(3600)
        said_s = await load.said("was set by +3600 s")
        await answered(load, 20)
        worker[1].set_clock(0)
        await load.said("was set by -3600 s")
        load.end()
    print(f"clock: said after {said_s:.1f} s, {load.summary['requests']}")
    assert load.errors.total() == 0
    assert 0 < load.summary["e2e_ms"]["max"] < 60_000  # no latency has jumped


async def test_a_disk_that_is_full(
    rsc: BackendProcess, worker: tuple[SomeonesCluster, NamespacedNode], tmp_path: Path
) -> None:
    url = await asyncio.to_thread(lambda: rsc.url)
    async with loaded(url, tmp_path / "run", rate=RATE_RPS, seconds=20) as load:
        worker[1].fill_disk()
        said_s = await load.said("is full")
        await answered(load, 20)
        worker[1].make_room()
        await load.said("has room again")
        load.end()
    print(f"disk: said after {said_s:.1f} s, {load.summary['requests']}")
    assert load.errors.total() == 0


async def test_a_node_that_is_cut_off(
    rsc: BackendProcess, worker: tuple[SomeonesCluster, NamespacedNode], tmp_path: Path
) -> None:
    url = await asyncio.to_thread(lambda: rsc.url)
    async with loaded(url, tmp_path / "run", rate=RATE_RPS, seconds=60) as load:
        worker[1].cut()
        said_s = await load.said("does not answer; ")
        shown = load.session.snapshot().cluster
        known = (await facts(url, "/rvtop/cluster"))["nodes"]
        await answered(load, 20)  # by the other one
        worker[1].mend()
        await load.said("answers again", MENDED_LIMIT_S)
        load.end()
    print(f"cut off: said after {said_s:.1f} s, {load.summary['requests']}")
    assert shown is not None
    assert [one.state for one in shown.nodes].count("silent") == 1
    assert [row["state"] for row in known].count("silent") == 1
