"""`rvtop run --target grpc://…`: on a mock with a log, and (slow) on each topology that answers gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.registry import REGISTRY
from tests.backends.conftest import Launch
from tests.backends.grpc_client import connected
from tests.backends.whole_run import whole_run
from tests.mock.process import GrpcMock

OURS = [name for name, entry in REGISTRY.items() if "rpc" in entry.flags]


def run(out: Path, *arguments: str) -> dict[str, Any]:
    """The summary of one run."""
    return whole_run(out, *arguments, "--ui", "plain", limit_s=600)[0]


def test_a_run_over_grpc_says_what_the_server_s_log_says(tmp_path: Path) -> None:
    with GrpcMock(ttft_ms=20, step_ms=2, tokens=8) as mock:
        load = ("--rate", "40", "--duration", "1s", "--arrivals", "constant", "--output-tokens", "8")
        summary = run(tmp_path / "run", "--target", mock.url, *load, "--prompt-tokens", "5")
        url, log = mock.url, mock.stop()
    assert summary["requests"]["ok"] == summary["requests"]["planned"] == 40 == len(log)
    assert set(log.end) == {"done"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "requests.jsonl").read_bytes().splitlines()]
    assert {(row["output_tokens"], row["chunks"], row["finish"], row["error"]) for row in rows} == {
        (8, 8, "length", None)
    }
    told = [(row["first_token_ns"] - row["sent_ns"]) / 1e6 for row in rows]
    assert min(told) >= log.ttft_ns.min() / 1e6  # a client can't have seen a token before it was written
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["target"] == url


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("topology", OURS)
async def test_smoke_by_grpc_and_by_http(topology: str, launch: Launch, tmp_path: Path) -> None:
    process = launch(topology, "--lease", "--model", "tiny=tiny", "--dtype", "float32", "--grpc", "0")
    ready = process.wait_for("ready")
    found = {}
    for way, url in (("grpc", ready["grpc"]), ("http", ready["url"])):
        summary = await asyncio.to_thread(run, tmp_path / way, "smoke", "--target", url, "--yes")
        assert summary["requests"]["ok"] == summary["requests"]["planned"] == 24
        assert summary["topology"] == topology  # its HTTP pages are found
        lines = (tmp_path / way / "requests.jsonl").read_bytes().splitlines()
        rows = {row["id"]: row for row in map(json.loads, lines)}
        found[way] = [
            (rows[number]["prompt"], rows[number]["prompt_tokens"], rows[number]["output_tokens"])
            for number in sorted(rows)
        ]
    assert found["grpc"] == found["http"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_health_follows_the_engine(launch: Launch) -> None:
    process = launch("rvc", "--lease", "--model", "tiny=tiny", "--dtype", "float32", "--grpc", "0")
    ready = process.wait_for("ready")
    place = ready["grpc"].removeprefix("grpc://")

    async def until(status: str) -> float:
        began = time.monotonic()
        async with asyncio.timeout(600):
            while await caller.health() != status:
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    async with connected(place) as caller, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await until("SERVING")
        (row,) = (await client.get(f"{ready['url']}/rvtop/topology")).json()["engines"]
        os.kill(row["pid"], signal.SIGKILL)
        down = await until("NOT_SERVING")
        back = await until("SERVING")
        print(f"NOT_SERVING {down:.2f} s after the kill, SERVING again {back:.1f} s later")
