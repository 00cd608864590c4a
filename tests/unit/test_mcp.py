"""``rvtop mcp``: what an agent can do, through the MCP package's own client, and what it can't."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.mcp.driver import Driver
from rvtop.mcp.figures import safe
from rvtop.mcp.limits import Limits
from rvtop.text import printable
from tests.conftest import Rvtop
from tests.mock.process import PythonMock, QueueingMock

mcp = pytest.importorskip("mcp")
LIMIT_S = 240.0


@asynccontextmanager
async def agent(limits: Limits, runs: Path) -> AsyncIterator[Any]:
    from rvtop.mcp.server import build

    async with mcp.Client(build(limits, Driver(None), runs)) as client:
        yield client


async def call(client: Any, name: str, **arguments: Any) -> dict[str, Any]:
    found = await client.call_tool(name, arguments)
    assert not found.is_error, found.content
    told: dict[str, Any] = found.structured_content
    return told.get("result", told)


async def refused(client: Any, name: str, **arguments: Any) -> str:
    found = await client.call_tool(name, arguments)
    assert found.is_error
    text: str = found.content[0].text
    return text


async def test_an_agent_that_may_only_look_cannot_send_a_request(tmp_path: Path) -> None:
    with PythonMock() as mock:
        async with agent(Limits(), tmp_path) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"watch", "start_load", "set_rate", "mark", "summary"} <= names
            for name, arguments in {
                "start_load": {"target": mock.url, "rate": 1},
                "run_scenario": {"target": mock.url, "scenario": "smoke"},
                "set_rate": {"rps": 1},
                "stop": {},
            }.items():
                assert "read-only" in await refused(client, name, **arguments)
            assert (await call(client, "scenarios"))["load_allowed"] is False
            assert (await call(client, "runs"))["runs"] == []
            assert "no session is up" in await refused(client, "watch")
            for run in ("../x", "", ".", "none"):
                assert "summary: " in await refused(client, "summary", run=run)
        assert not mock.log().id


async def test_an_agent_drives_within_its_limits(tmp_path: Path) -> None:
    with PythonMock(ttft_ms=5, step_ms=1, tokens=4) as mock:
        limits = Limits(load=True, max_rate=20.0, targets=(mock.url + "/",))
        async with agent(limits, tmp_path) as client:
            other = await refused(client, "start_load", target="http://127.0.0.1:9", rate=1)
            assert "not a target that is allowed here" in other
            assert "allowed: " + mock.url in other
            assert "rac is not a target" in await refused(
                client, "run_scenario", target="rac", scenario="smoke"
            )
            assert "from 0 to 20" in await refused(client, "start_load", target=mock.url, rate=21)
            assert "no session is up" in await refused(client, "set_rate", rps=2)
            first = await call(
                client,
                "start_load",
                target=mock.url,
                rate=10,
                prompt_tokens=8,
                output_tokens=4,
                slo_ttft_ms=500,
            )
            assert Path(first["run"]).parent == tmp_path
            assert "already" in await refused(client, "start_load", target=mock.url, rate=1)
            picture = first
            while picture["ok"] < 3:
                picture = await call(client, "watch", seconds=0.3)
            assert picture["ttft_ms"]["p50"] >= 5
            assert picture["target"]["url"] == mock.url
            assert "rate 10 → 20 rps" in (await call(client, "set_rate", rps=20))["ok"]
            assert "from 0 to 20" in await refused(client, "set_rate", rps=20.5)
            await call(client, "mark", note="half\x1b[2J way")
            await call(client, "stop")
            (run,) = (await call(client, "runs"))["runs"]
            told = await call(client, "summary", run=run)
            assert told["requests"]["ok"] >= 3
            assert told["phases"][0]["name"] == "steady"
            assert (await call(client, "watch"))["state"] == "done"
    rows = [json.loads(line) for line in (tmp_path / run / "commands.jsonl").read_text().splitlines()]
    by_agent = [row["cmd"] for row in rows if row.get("by") == "mcp"]
    assert by_agent[0] == "snapshot"
    assert {"snapshot", "rate", "mark", "stop"} <= set(by_agent)
    assert not [row for row in rows if row["cmd"] in ("rate", "mark") and row["by"] != "mcp"]


@pytest.mark.slow
async def test_an_agent_finds_the_highest_rate_through_the_server_alone(tmp_path: Path) -> None:
    slo_ms = 400.0
    with QueueingMock(slots=4, ttft_ms=50, step_ms=10, tokens=16) as mock:  # 20 requests a second
        server = mcp.StdioServerParameters(
            command=sys.executable,
            args=[
                *("-P", "-m", "rvtop.cli", "mcp", "--allow-load", "--max-rate", "80"),
                *("--target", mock.url, "--runs", str(tmp_path)),
            ],
        )
        async with mcp.Client(server) as client:
            await call(client, "start_load", target=mock.url, rate=4, prompt_tokens=8, output_tokens=16)
            low, high = 4.0, 80.0
            while high / low > 1.25:
                rate = (low * high) ** 0.5
                await call(client, "set_rate", rps=0)
                while (await call(client, "watch", seconds=1))["in_flight"]:
                    pass
                await call(client, "watch", seconds=11)  # figures cover the last 10 s
                await call(client, "set_rate", rps=rate)
                picture = await call(client, "watch", seconds=12)
                low, high = (rate, high) if picture["ttft_ms"]["p90"] <= slo_ms else (low, rate)
            await call(client, "stop")
    assert 0.6 * mock.capacity < low < 1.25 * mock.capacity


def test_limits_are_checked_before_anything_starts(rvtop_here: Rvtop) -> None:
    for arguments, why in {
        ("--allow-load", "--target", "http://h:1"): "--allow-load needs --max-rate",
        ("--allow-load", "--max-rate", "5"): "--allow-load needs --target",
        ("--max-rate", "5"): "go with --allow-load",
        ("--allow-load", "--max-rate", "5", "--target", "nothing"): "nothing",
    }.items():
        code, _, err = rvtop_here("mcp", *arguments)
        assert code == 2
        assert why in err


def test_what_a_server_sends_is_told_without_its_escape_sequences() -> None:
    told = safe({"a\x1b[2J": ["\x1b]0;x\x07", 1, None]})
    assert list(told) == [printable("a\x1b[2J")]
    assert told[printable("a\x1b[2J")] == [printable("\x1b]0;x\x07"), 1, None]
    assert "\x1b" not in printable("a\x1b[2J")


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="from 0 to 5"):
        Limits(True, 5.0).check_rate("set_rate", float("nan"))
