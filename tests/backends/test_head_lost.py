"""A cluster's head dies under load. With its state in Redis nothing that serves is touched; without, all that
it knew is gone, and the backend starts everything again and says so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.redis_server import redis
from tests.backends.someones_cluster import SomeonesCluster
from tests.backends.under_load import SAID_LIMIT_S, facts, loaded

RATE_RPS = 20
BACK_LIMIT_S = 60.0
ALL_AGAIN_LIMIT_S = 90.0
#: As long as it takes to start a head's process again somewhere.
AWAY_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def backend(folder: Path, model: Path, *words: str, env: dict[str, str] | None = None) -> BackendProcess:
    return BackendProcess(
        *("rsc", "--lease", "--model", f"tiny={model}", "--threads", "1", *words),
        log=folder / "backend.log",
        env=env,
    )


@contextmanager
def kept(where: str, folder: Path) -> Iterator[dict[str, str]]:
    """What tells Ray to keep the head's state."""
    if where == "rocksdb":
        yield {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(folder / "state")}
        return
    with redis(folder) as address:
        yield {"RAY_REDIS_ADDRESS": address}


@pytest.mark.parametrize("where", ["redis", "rocksdb"])
async def test_with_its_state_kept_nothing_is_lost_and_nothing_deployed_again(
    where: str, folder: Path, tiny_model: Path
) -> None:
    with kept(where, folder) as env:
        theirs = SomeonesCluster(folder, env=env)
        rsc = backend(folder, tiny_model, "--ray-address", theirs.address, env=theirs.env)
        try:
            url = await asyncio.to_thread(lambda: rsc.url)
            before = await engines(url)
            assert len({row["node_id"] for row in before.values()}) == 2
            async with loaded(url, folder / "run", rate=RATE_RPS, seconds=40) as load:
                await asyncio.to_thread(theirs.ask, "kill-gcs")
                said_s = await load.said("Ray's head (GCS) does not answer")
                shown = load.session.snapshot().cluster
                await asyncio.sleep(AWAY_S)
                assert (await facts(url, "/rvtop/cluster"))["head_lost_s"] > AWAY_S / 2
                assert await engines(url) == before  # told while the head is away
                await asyncio.to_thread(theirs.ask, "start-gcs")
                back_s = await load.said("Ray's head answers again", BACK_LIMIT_S)
            assert shown is not None
            assert shown.head_lost_s is not None
            print(f"head lost, {where}: said after {said_s:.1f} s, back {back_s:.1f} s after its start,")
            print(f"  {load.summary['requests']}")
            assert load.errors.total() == 0
            assert await engines(url) == before
        finally:
            rsc.kill()
            theirs.close()


async def test_without_it_everything_is_started_again(folder: Path, tiny_model: Path) -> None:
    theirs = SomeonesCluster(folder)
    port, token = int(theirs.address.rpartition(":")[2]), theirs.token_file.read_text()
    rsc = backend(folder, tiny_model, "--ray-address", theirs.address, env=theirs.env)
    clusters = [theirs]
    try:
        url = await asyncio.to_thread(lambda: rsc.url)
        before = await engines(url)
        async with loaded(url, folder / "run", rate=RATE_RPS, seconds=100) as load:
            began = time.monotonic()
            theirs.kill()
            said_s = await load.said("Ray's head (GCS) does not answer")
            clusters.append(await asyncio.to_thread(again, folder, port, token))
            await load.said("every engine is started again", ALL_AGAIN_LIMIT_S)
            while time.monotonic() - began < ALL_AGAIN_LIMIT_S:
                await asyncio.sleep(0.2)
                ok = load.session.snapshot().load.ok
                now = await ready(url)
                if len(now) == len(before) and not now & set(before):
                    break
            took_s = time.monotonic() - began
            while load.session.snapshot().load.ok < ok + RATE_RPS:
                assert time.monotonic() - began < ALL_AGAIN_LIMIT_S
                await asyncio.sleep(0.1)
            load.end()
        print(f"head lost, no Redis: said after {said_s:.1f} s, all again after {took_s:.1f} s")
        print(f"  {load.summary['requests']}")
        assert took_s < ALL_AGAIN_LIMIT_S
        assert rsc.process.poll() is None  # in the same process
    finally:
        rsc.kill()
        for cluster in clusters:
            cluster.kill()


async def test_a_cluster_of_our_own_is_started_again(folder: Path, tiny_model: Path) -> None:
    rsc = backend(folder, tiny_model)
    try:
        url = await asyncio.to_thread(lambda: rsc.url)
        before = await engines(url)
        assert (await defaults(url, {"max_tokens": 9}))["max_tokens"] == 9
        (gcs,) = processes.named(rsc.pid, "gcs_server")
        async with loaded(url, folder / "run", rate=5, seconds=90) as load:
            began = time.monotonic()
            os.kill(gcs.pid, signal.SIGKILL)
            said_s = await load.said("Ray's head (GCS) does not answer: everything is started again")
            while not (now := await ready(url)) or now & set(before):
                assert time.monotonic() - began < ALL_AGAIN_LIMIT_S
                await asyncio.sleep(0.2)
            took_s = time.monotonic() - began
            load.end()
        print(f"own head lost: said after {said_s:.1f} s, all again after {took_s:.1f} s")
        assert said_s < SAID_LIMIT_S
        assert (await defaults(url, {}))["max_tokens"] == 9  # for as long as the backend lives
    finally:
        rsc.kill()


async def defaults(url: str, changed: dict[str, Any]) -> dict[str, Any]:
    """What requests get that do not say it themselves, with what is changed of it."""
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{url}/rvtop/set", json=changed)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def again(folder: Path, port: int, token: str) -> SomeonesCluster:
    """The cluster that takes the place of the one that was lost."""
    new = folder / "again"
    new.mkdir()
    return SomeonesCluster(new, port=port, token=token)


async def engines(url: str) -> dict[str, dict[str, Any]]:
    """By name: where each is, and its process."""
    rows = (await facts(url))["engines"]
    return {row["engine"]: {key: row.get(key) for key in ("node_id", "pid", "state")} for row in rows}


async def ready(url: str) -> set[str]:
    try:
        return {name for name, row in (await engines(url)).items() if row["state"] == "ready"}
    except Exception:  # noqa: BLE001  # it is being started
        return set()
