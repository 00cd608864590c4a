"""``--auto``: what a profile measures of stages whose work is known, and what it says of one that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from backends.errors import StartFailure
from backends.stages.profile import TOKENS, profile, warm_up

TOKEN = "run-token"


class Stages:
    """A fleet of one replica a stage: each request costs the embedder 4 ms, a search 1, the LLM 30."""

    COSTS = {"embed": 4.0, "search": 1.0}  # noqa: RUF012

    def __init__(self, port: int) -> None:
        self.port, self.passed, self.analyzed = port, 0, 0
        self.asked: list[dict[str, Any]] = []
        self.status = 200

    def stages(self) -> list[str]:
        return ["embed", "search", "llm", "merge"]

    async def replicas_of(self, stage: str) -> list[dict[str, Any]]:
        row: dict[str, Any] = {"model": "tiny", "state": "ready"}
        if stage == "llm":
            return [{"row": row, "address": ("127.0.0.1", self.port)}]
        items = self.analyzed if stage == "merge" else self.passed
        return [{"row": row | {"items": items, "busy_ms": items * self.COSTS.get(stage, 0.5)}}]

    async def analyze(self, text: str, labels: Any, timings: bool) -> bytes:
        self.analyzed += 1
        return b"{}"

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.asked.append(await request.json())
        self.passed += 1
        timings = {"prefill_ms": 10.0, "decode_ms": 20.0}
        return web.json_response({"usage": {"rvtop": timings}}, status=self.status)


@pytest.fixture
async def fleet() -> AsyncIterator[Any]:
    app = web.Application()
    runner = web.AppRunner(app)
    made = Stages(0)
    app.router.add_post("/v1/chat/completions", made.answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


async def test_a_profile_measures_the_work_of_each_stage(fleet: Any) -> None:
    await warm_up(fleet, TOKEN)
    assert [one["max_tokens"] for one in fleet.asked] == [2]
    work, rate = await profile(fleet, 0.1, TOKEN, 2)
    assert {stage: done.ms for stage, done in work.items()} == {
        "embed": 4.0,
        "search": 1.0,
        "llm": 15.0,  # of which an LLM computes two at once
        "merge": 0.5,
    }
    count = len(fleet.asked) - 1
    assert {done.requests for done in work.values()} == {count}
    assert rate > 0
    assert {one["max_tokens"] for one in fleet.asked[1:]} == {TOKENS}
    assert all(one["rag"] == {"top_k": 4} and one["ignore_eos"] for one in fleet.asked)


async def test_a_request_that_fails_ends_the_start(fleet: Any) -> None:
    fleet.status = 500
    with pytest.raises(StartFailure, match=f"the LLM at 127.0.0.1:{fleet.port} answered 500"):
        await profile(fleet, 5.0, TOKEN, 1)
    fleet.port = 1
    with pytest.raises(StartFailure, match="does not answer"):
        await warm_up(fleet, TOKEN)
