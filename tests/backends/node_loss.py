"""A worker node of a cluster dies under the load of rvtop's own client: what is lost, to the request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from rvtop.load.wire.timeouts import Timeouts
from rvtop.scenario.load import scenario_from
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session
from tests.backends import processes
from tests.backends.someones_cluster import SomeonesCluster

RATE_RPS = 3
BUSY_LIMIT_S = 60.0
# How long the processes of a node may outlive it.
NODE_LIMIT_S = 15.0
DRAIN_S = 240

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Loss:
    """What the client saw. ``in_flight`` is what the lost engine held when its node was killed."""

    engine: str
    in_flight: int
    summary: dict[str, Any]
    requests: list[dict[str, Any]]

    @property
    def errors(self) -> Counter[str]:
        return Counter(request["error"] for request in self.requests if request["error"])


async def lose_a_node(
    client: httpx.AsyncClient,
    theirs: SomeonesCluster,
    out: Path,
    *,
    seconds: int,
    tokens: int,
    busy: Callable[[Rows], bool],
) -> Loss:
    """Kills the node without the head as soon as its engines are ``busy``, lets the load end, and checks that
    only what the lost engine held then is lost. (``tokens`` must take longer than that: checked, too.)"""
    head = next(node["id"] for node in (await topology(client))["nodes"] if node["head"])
    session = Session(_request(str(client.base_url), out, seconds, tokens))
    load = asyncio.create_task(session.run())
    try:
        rows, asked_ns = await _until(client, busy)
        (lost,) = [row for row in rows.values() if row["node_id"] != head]
        family = await asyncio.to_thread(processes.family, lost["pid"])
        await asyncio.to_thread(theirs.ask, "kill")
        await asyncio.to_thread(processes.wait_until_gone, family, set(), NODE_LIMIT_S)
        gone_ns = time.time_ns()
        outcome = await load
    finally:
        load.cancel()
    assert outcome.exit_code == 0, outcome.message
    requests = [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    loss = Loss(lost["engine"], lost["in_flight"], summary, requests)
    t0 = json.loads((out / "environment.json").read_text())["t0_unix_ns"]
    _check(loss, seconds * RATE_RPS, asked_ns - t0, gone_ns - t0)
    return loss


def _check(loss: Loss, planned: int, asked_ns: int, gone_ns: int) -> None:
    told = loss.summary["requests"]
    assert loss.errors == told["errors"]
    assert told["planned"] == told["sent"] == planned
    assert told["ok"] + loss.errors.total() == planned
    # What was sent while the node died may have reached it, or not; all else is known to the request.
    between = sum(asked_ns <= request["sent_ns"] <= gone_ns for request in loss.requests)
    assert 0 < loss.in_flight <= loss.errors.total() <= loss.in_flight + between, (loss, between)
    for request in loss.requests:
        if request["error"]:
            assert request["sent_ns"] <= gone_ns, request
        else:
            assert request["engine"] != loss.engine, "it ended before the node did: ask for more tokens"
    assert any(request["sent_ns"] > gone_ns for request in loss.requests)  # and those went on, too


async def topology(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/rvtop/topology")).json())


async def _until(client: httpx.AsyncClient, busy: Callable[[Rows], bool]) -> tuple[Rows, int]:
    """The engines when they are busy for the first time, and when they were asked (Unix ns)."""
    async with asyncio.timeout(BUSY_LIMIT_S):
        while True:
            asked_ns = time.time_ns()
            rows = {row["engine"]: row for row in (await topology(client))["engines"]}
            if busy(rows):
                return rows, asked_ns
            await asyncio.sleep(0.02)


def _request(url: str, out: Path, seconds: int, tokens: int) -> SessionRequest:
    phase = {"name": "load", "rate": RATE_RPS, "duration": f"{seconds}s", "drain": f"{DRAIN_S}s"}
    workload = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": tokens}
    data = {"name": "node-loss", "seed": 7, "workload": workload, "phases": [phase]}
    scenario = scenario_from(data, "node-loss")
    return SessionRequest(scenario=scenario, out=out, url=url, timeouts=Timeouts(30.0, None, 60.0))
