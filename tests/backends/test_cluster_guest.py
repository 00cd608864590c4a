"""On someone's cluster of two nodes: what we put there, what a dying node costs, and that no trace stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, chat, messages
from tests.backends.conftest import Launch
from tests.backends.node_loss import lose_a_node
from tests.backends.someones_cluster import SomeonesCluster, started

# Once our process is killed nothing of ours may be on the cluster for longer.
GONE_LIMIT_S = 15.0
# As above, and the time until a head that stands still is taken for dead; far below the grace of a replica
# that is retired (120 s).
LAPSE_LIMIT_S = 60.0
BACK_LIMIT_S = 180.0
TOKENS = 1500
# Long enough to outlive a node that dies with them.
LOST_TOKENS = 1000
# What the head's environment says about models, and no cluster says by itself.
OFFLINE = {
    "HF_HOME": "/nonexistent/hf",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
# Few enough to end while a backend that was told to stop lets its requests go on.
FEW_TOKENS = 150


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SomeonesCluster]:
    cluster = started(tmp_path_factory)
    yield cluster
    cluster.close()


Rows = dict[str, dict[str, Any]]


class Guest:
    """A backend of ours on that cluster."""

    def __init__(self, process: BackendProcess, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client

    async def topology(self) -> dict[str, Any]:
        return dict((await self.client.get("/rvtop/topology")).json())

    async def rows(self) -> Rows:
        """Engines by name."""
        return {row["engine"]: row for row in (await self.topology())["engines"]}

    async def streams(self, count: int, tokens: int = TOKENS) -> list[asyncio.Task[tuple[str, str]]]:
        """Long streams that have begun: how each ended, ``ok`` or the kind of error, and its engine."""
        begun = [asyncio.Event() for _ in range(count)]
        tasks = [asyncio.create_task(self._stream(event, tokens)) for event in begun]
        async with asyncio.timeout(240):
            for event in begun:
                await event.wait()
        return tasks

    async def _stream(self, begun: asyncio.Event, tokens: int) -> tuple[str, str]:
        body = {"messages": messages(), "max_tokens": tokens, "ignore_eos": True, "stream": True}
        last: dict[str, Any] = {}
        try:
            async with self.client.stream(
                "POST", CHAT, json={**body, "rvtop": {"timings": True}}
            ) as response:
                assert response.status_code == 200
                async for line in response.aiter_lines():
                    begun.set()
                    if line.startswith("data: {"):
                        last = json.loads(line.removeprefix("data: "))
        except httpx.RemoteProtocolError:
            return "truncated", ""
        if "error" in last:
            return "stream_error", ""
        assert last["usage"]["completion_tokens"] == tokens
        return "ok", last["usage"]["rvtop"]["engine"]


@asynccontextmanager
async def guest(process: BackendProcess) -> AsyncIterator[Guest]:
    async with httpx.AsyncClient(base_url=process.url, timeout=120, trust_env=False) as client:
        yield Guest(process, client)


def engines_of(rows: Rows) -> list[processes.Process]:
    found = [process for row in rows.values() for process in processes.family(row["pid"])]
    assert len({process.pid for process in found}) >= len(rows)
    return found


def hear_the_environment(rows: Rows) -> None:
    """Every engine, on whichever node, was started with OFFLINE, and with no secret."""
    for row in rows.values():
        entries = Path(f"/proc/{row['pid']}/environ").read_bytes().split(b"\0")
        assert {f"{name}={value}".encode() for name, value in OFFLINE.items()} <= set(entries), row
        assert not any(entry.startswith(b"HF_TOKEN=") for entry in entries)


async def pid_of(app: str) -> int:
    """The process of the replica of their application."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return int((await client.get(app)).json()["pid"])


async def is_clean(theirs: SomeonesCluster, actors: list[str], limit_s: float) -> None:
    """Waits until the cluster's named actors are these again."""
    deadline = time.monotonic() + limit_s
    while (now := theirs.ask("status"))["actors"] != actors:
        assert time.monotonic() < deadline, f"left behind: {set(now['actors']) - set(actors)}"
        await asyncio.sleep(0.2)


def test_without_the_token_it_is_refused_in_one_line(launch: Launch, theirs: SomeonesCluster) -> None:
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    backend = launch("rac", "--model", "tiny=tiny", "--ray-address", theirs.address, env=wrong)
    assert backend.wait(120) == 4
    message = backend.wait_for("error")["message"]
    assert "wants its token; set RAY_AUTH_MODE" in message
    assert "\n" not in message
    assert "0" * 64 not in backend.log.read_text()


async def test_rac_on_two_nodes(
    launch: Launch, theirs: SomeonesCluster, tiny_model: Path, tmp_path: Path
) -> None:
    """A node that dies takes with it what it computes, and nothing else."""
    args = ("--lease", "--model", f"tiny={tiny_model}", "--threads", "1", "--ray-address", "auto")
    actors = theirs.ask("status")["actors"]
    told = {**OFFLINE, "HF_TOKEN": "a-secret"}
    async with guest(launch("rac", *args, env={**theirs.env, **told})) as ours:
        topology = await ours.topology()
        hear_the_environment(await ours.rows())
        nodes = {node["id"] for node in topology["nodes"]}
        assert len(nodes) == 2
        assert {row["node_id"] for row in topology["engines"]} == nodes
        assert topology["ray"]["ours"] is False

        loss = await lose_a_node(
            ours.client,
            theirs,
            tmp_path / "run",
            seconds=3,
            tokens=LOST_TOKENS,
            busy=lambda rows: all(row.get("in_flight") == 1 for row in rows.values()),
        )
        # Had its first token come, the stream says so; had it not, the answer does.
        assert set(loss.errors) <= {"stream_error", "http_503"}
        print("rac, a node lost:", loss.summary["requests"])
        assert (await ours.client.get("/health")).status_code == 200
        lost = loss.engine

        theirs.ask("add")
        async with asyncio.timeout(BACK_LIMIT_S):
            while (await ours.rows())[lost]["state"] != "ready":
                await asyncio.sleep(0.2)
        rows = await ours.rows()
        assert rows[lost]["node_id"] not in nodes
        assert {node["id"] for node in (await ours.topology())["nodes"]} == {
            row["node_id"] for row in rows.values()
        }
        used = {
            (await chat(ours.client, rvtop={"timings": True}))["usage"]["rvtop"]["engine"] for _ in range(4)
        }
        assert used == set(rows)

        streams = await ours.streams(2)
        engines = engines_of(rows)
        ours.process.process.kill()
        processes.wait_until_gone(engines, set(), GONE_LIMIT_S)
        await asyncio.gather(*streams, return_exceptions=True)
    await is_clean(theirs, actors, GONE_LIMIT_S)


@pytest.mark.parametrize(
    ("topology", "end"),
    [
        ("rsc", "kill"),
        ("rsc", "stop"),
        ("rsc", "term"),
        *[("rsv", "kill")] * 3,
    ],  # three times: a race may hide
)
async def test_serve_beside_their_application(
    launch: Launch, theirs: SomeonesCluster, tiny_model: Path, their_app: str, topology: str, end: str
) -> None:
    """Load, then the end of our process: theirs is as before, and of ours nothing is there."""
    before = theirs.ask("status")
    pid = await pid_of(their_app)
    args = ("--lease", "--model", f"tiny={tiny_model}", "--threads", "1", "--ray-address", theirs.address)
    told = {**OFFLINE, "HF_TOKEN": "a-secret"}
    async with guest(launch(topology, *args, env={**theirs.auth, **told})) as ours:
        facts = await ours.topology()
        hear_the_environment(await ours.rows())
        assert facts["serve"]["started"] is False
        assert {row["node_id"] for row in facts["engines"]} == {node["id"] for node in facts["nodes"]}
        assert len(theirs.ask("status")["apps"]) == 2
        streams = await ours.streams(2, FEW_TOKENS if end == "term" else TOKENS)
        assert await pid_of(their_app) == pid
        engines = engines_of(await ours.rows())
        paths = processes.folders(processes.family(ours.process.pid))
        if end == "kill":
            ours.process.process.kill()
        elif end == "stop":
            # The head stands still while its router streams on: the lease lapses, and no replica gets the two
            # minutes of one that is retired. (They stand still too, so that none has ended by itself.)
            ours.process.process.send_signal(signal.SIGSTOP)
            for engine in engines:
                os.kill(engine.pid, signal.SIGSTOP)
            processes.wait_until_gone(engines, set(), LAPSE_LIMIT_S)
            ours.process.process.kill()
        else:
            ours.process.process.terminate()
            assert {outcome for outcome, _ in await asyncio.gather(*streams)} == {"ok"}
        processes.wait_until_gone(engines, paths, GONE_LIMIT_S)
        assert ours.process.wait() == (0 if end == "term" else -9)
        await asyncio.gather(*streams, return_exceptions=True)
    await is_clean(theirs, before["actors"], GONE_LIMIT_S)
    assert theirs.ask("status") == before
    assert await pid_of(their_app) == pid


@pytest.fixture(scope="module")
def their_app(theirs: SomeonesCluster) -> str:
    """The URL of the owner's application."""
    return str(theirs.ask("serve")["url"])
