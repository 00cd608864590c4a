"""Attached to a Ray Serve LLM that rvtop did not start and that knows nothing of it, with its URL only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Snapshot
from rvtop.session.request import attach_request
from rvtop.session.session import Session
from tests.backends.conformance import CHAT, messages
from tests.backends.someones_cluster import NODE_START
from tests.backends.their_llm import NAME, REPLICAS

pytestmark = pytest.mark.xdist_group("ray")
END_LIMIT_S = 180
# Ray hands figures on every 10 s; a busy machine takes longer.
FIGURES_LIMIT_S = 600.0
STREAMS = 6
TOKENS = 400


@pytest.fixture
def theirs(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of their server; and their cluster's folder is where Ray keeps it."""
    log = tmp_path / "theirs.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.backends.their_llm", str(tiny_model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **NODE_START},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()[-3000:]
        told = json.loads(line)
        monkeypatch.setenv("RAY_TMPDIR", told["folder"])
        yield told["url"]
    finally:
        process.stdin.close()
        try:
            process.wait(END_LIMIT_S)
        finally:
            process.kill()
            process.wait()


def lacks(seen: Snapshot) -> list[str]:
    """What the screen does not tell yet."""
    busy = [one for one in seen.engines if one.model == NAME and one.kv_usage and one.running]
    served = {one.name.rpartition("/")[2]: one for one in seen.deployments}
    engines = served.get(f"LLMServer:{NAME}")
    missing = {
        f"an engine for each replica, with its keys and values: {seen.engines}": len(busy) == REPLICAS,
        f"how many wait in the engines: {seen.engines}": all(one.waiting is not None for one in busy),
        f"their deployments: {list(served)}": engines is not None and "OpenAiIngress" in served,
        f"replicas: {engines}": engines is not None and engines.replicas == REPLICAS,
        f"the queue: {engines}": engines is not None and engines.queued is not None,
        f"requests inside the replicas: {engines}": engines is not None and bool(engines.ongoing),
    }
    return [what for what, told in missing.items() if not told]


async def load(url: str) -> None:
    """One request after another."""
    body = {"model": NAME, "messages": messages(), "max_tokens": TOKENS, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        while True:
            assert (await client.post(CHAT, json=body)).status_code == 200


async def test_engines_replicas_and_queue_are_told_without_an_option(theirs: str, tmp_path: Path) -> None:
    session = Session(attach_request(theirs, (), (), None, tmp_path / "run"))
    running = asyncio.create_task(session.run())
    streams = [asyncio.create_task(load(theirs)) for _ in range(STREAMS)]
    missing = ["everything"]
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIGURES_LIMIT_S):
                while missing := lacks(session.snapshot()):
                    assert not any(stream.done() for stream in streams), streams
                    await asyncio.sleep(0.2)
        assert missing == []
        assert session.snapshot().state == "watching"
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        session.command(Stop("quit"))
        outcome = await running
    assert outcome.exit_code == 0
