"""A load of rvtop's own client on a backend while a fault is made, and what became of each request of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from rvtop.contract.command import NextPhase
from rvtop.load.wire.timeouts import Timeouts
from rvtop.scenario.load import scenario_from
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session

#: Within which each fault is said.
SAID_LIMIT_S = 5.0
#: What waits in Serve's queue when nothing more is sent is answered: on a busy machine engines manage fewer
#: requests than come.
DRAIN_LIMIT_S = 300


@dataclass
class Load:
    """A load that goes on. After the body of :func:`loaded`, ``requests`` and ``summary`` are those of the
    run folder."""

    session: Session
    out: Path
    requests: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> Counter[str]:
        return Counter(request["error"] for request in self.requests if request["error"])

    @property
    def events(self) -> list[str]:
        """What was said so far."""
        return [event.text for event in self.session.snapshot().events]

    async def said(self, part: str, limit_s: float = SAID_LIMIT_S) -> float:
        """Waits until a line with ``part`` is said; after how many seconds that was."""
        began = time.monotonic()
        while not any(part in text for text in self.events):
            assert time.monotonic() - began < limit_s, (part, limit_s, self.events)
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    def end(self) -> None:
        """No more is sent; what is in flight is waited for."""
        self.session.command(NextPhase())

    def check(self) -> None:
        """Every request is accounted for, once."""
        told = self.summary["requests"]
        numbers = [request["id"] for request in self.requests]
        assert len(numbers) == len(set(numbers)) == told["sent"], told
        assert told["sent"] == told["ok"] + self.errors.total()
        assert self.errors == Counter(told["errors"])


@asynccontextmanager
async def loaded(
    url: str,
    out: Path,
    *,
    rate: float,
    seconds: float,
    tokens: int = 8,
    cancel: Mapping[str, Any] | None = None,
    **given: Any,
) -> AsyncIterator[Load]:
    """``seconds`` of load around the body; waits for its end, or ends it where the body fails. ``cancel`` is
    that of its phase, ``given`` are fields of its scenario."""
    phase: dict[str, Any] = {"name": "load", "rate": rate, "duration": f"{seconds}s"}
    phase |= {"drain": f"{DRAIN_LIMIT_S}s", **({} if cancel is None else {"cancel": cancel})}
    workload = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": tokens}
    data = {"name": "fault", "seed": 7, "workload": workload, "phases": [phase], **given}
    request = SessionRequest(
        scenario=scenario_from(data, "fault"), out=out, url=url, timeouts=Timeouts(30.0, None, 60.0)
    )
    load = Load(Session(request), out)
    task = asyncio.create_task(load.session.run())
    try:
        while load.session.snapshot().load.ok < rate:
            assert not task.done(), task.result()
            await asyncio.sleep(0.05)
        yield load
        outcome = await task
        assert outcome.exit_code in (0, 1), outcome.message
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    lines = (out / "requests.jsonl").read_text().splitlines()
    load.requests = [json.loads(line) for line in lines]
    load.summary = json.loads((out / "summary.json").read_text())
    load.check()


async def facts(url: str, path: str = "/rvtop/topology") -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        return dict((await client.get(url + path)).json())


async def until_ready(url: str, engines: int, limit_s: float) -> float:
    """Waits until so many engines are ready; returns how many seconds that took."""
    began = time.monotonic()
    while True:
        rows: list[dict[str, Any]] = []
        with suppress(httpx.HTTPError, ValueError, KeyError):
            rows = (await facts(url))["engines"]
        if sum(row["state"] == "ready" for row in rows) >= engines:
            return time.monotonic() - began
        assert time.monotonic() - began < limit_s, rows
        await asyncio.sleep(0.2)
